"""Replacing names of other packages: for as long as agents need it, and never half."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from a2a_gateway.agents.sdk_patches.patching import Patch, apply_optional, require
from a2a_gateway.errors import ConfigurationError


def replaced(_: Callable[..., Any]) -> Callable[..., str]:
    return lambda *_: "replaced"


DUMPS = Patch("json", "dumps", replaced)
MISSING = Patch("json", "no_such_name", replaced)
LACKING = Patch("json", "loads", replaced, needs=(("json:JSONEncoder", "no_such_name"),))
GONE = Patch("json.no_such_module", "dumps", replaced)


def test_a_name_is_replaced_until_the_last_who_needs_it_has_left() -> None:
    original = json.dumps
    with require([DUMPS]):
        with require([DUMPS]):
            assert json.dumps(1) == "replaced"
        assert json.dumps(1) == "replaced"
    assert json.dumps is original


@pytest.mark.parametrize("patch", [MISSING, LACKING, GONE], ids=["name", "needed name", "module"])
def test_a_required_name_that_is_missing_refuses_the_start_and_changes_nothing(patch: Patch) -> None:
    original = json.dumps
    with pytest.raises(ConfigurationError) as refused, require([DUMPS, patch]):
        pass
    missing = patch.needs[0] if patch.needs else (patch.owner, patch.name)
    assert (refused.value.details["owner"], refused.value.details["name"]) == missing
    assert json.dumps is original


def test_an_optional_name_that_is_missing_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Target:
        dumps = staticmethod(json.dumps)

    monkeypatch.setattr(json, "Target", Target, raising=False)
    apply_optional([MISSING, LACKING, GONE, Patch("json:Target", "dumps", replaced)])
    assert Target.dumps(1) == "replaced"
    assert json.loads("1") == 1
