"""Two gateways never share a data directory."""

from pathlib import Path

import pytest

from a2a_gateway.errors import ConfigurationError
from a2a_gateway.host.data_dir_lock import find_running_url, lock_data_dir
from a2a_gateway.settings import Settings
from tests.error_texts.texts import pattern_of


def test_a_second_gateway_on_one_data_directory_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    taken = pattern_of("configuration_error: a data directory of two gateways")
    with lock_data_dir(settings), pytest.raises(ConfigurationError, match=taken), lock_data_dir(settings):
        pass
    with lock_data_dir(settings):
        assert settings.data_dir.stat().st_mode & 0o777 == 0o700
        assert find_running_url(settings.data_dir) == settings.own_url
    assert find_running_url(settings.data_dir) is None


def test_a_data_directory_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "data" / "gateway.lock").mkdir(parents=True)
    with (
        pytest.raises(ConfigurationError, match=pattern_of("configuration_error: a data directory that cannot be written to")),
        lock_data_dir(Settings(data_dir=tmp_path / "data")),
    ):
        pass
