"""The import of the SDK through the tool, which must not fetch a price map."""

import os
import subprocess
import sys

import pytest

from delegate_tool.sdk_import import LOCAL_PRICES, default_variables

(VARIABLE,) = LOCAL_PRICES
PROGRAM = f"""
import os
from delegate_tool import register
from litellm.litellm_core_utils.get_model_cost_map import get_model_cost_map_source_info
from openhands.sdk import Agent
print(register(), get_model_cost_map_source_info()["is_env_forced"], os.environ.get("{VARIABLE}"))
"""


@pytest.mark.slow
def test_importing_register_fetches_no_price_map_and_keeps_the_environment() -> None:
    environ = {name: value for name, value in os.environ.items() if name != VARIABLE}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-3:] == ["delegate", "True", "None"]


@pytest.mark.parametrize(("chosen", "meanwhile"), [(None, "True"), ("False", "False")])
def test_a_price_map_that_the_user_has_chosen_is_respected(
    monkeypatch: pytest.MonkeyPatch, chosen: str | None, meanwhile: str
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if chosen is not None:
        monkeypatch.setenv(VARIABLE, chosen)
    with default_variables(LOCAL_PRICES):
        assert os.environ[VARIABLE] == meanwhile
    assert os.environ.get(VARIABLE) == chosen
