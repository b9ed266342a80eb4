"""Two gateways never share a data directory."""

from pathlib import Path

import pytest

from a2a_gateway.errors import ConfigurationError
from a2a_gateway.server.lock import sole_user


def test_a_second_gateway_on_one_data_directory_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    with sole_user(directory), pytest.raises(ConfigurationError, match="Another gateway uses"), sole_user(directory):
        pass
    with sole_user(directory):
        assert directory.stat().st_mode & 0o777 == 0o700
