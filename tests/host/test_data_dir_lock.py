"""Two gateways never share a data directory."""

from pathlib import Path

import pytest

from a2a_gateway.errors import ConfigurationError
from a2a_gateway.host.data_dir_lock import sole_user
from a2a_gateway.settings import Settings


def test_a_second_gateway_on_one_data_directory_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    with sole_user(settings), pytest.raises(ConfigurationError), sole_user(settings):
        pass
    with sole_user(settings):
        assert settings.data_dir.stat().st_mode & 0o777 == 0o700


def test_a_data_directory_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "data" / "gateway.lock").mkdir(parents=True)
    with (
        pytest.raises(ConfigurationError, match=str(tmp_path / "data")),
        sole_user(Settings(data_dir=tmp_path / "data")),
    ):
        pass
