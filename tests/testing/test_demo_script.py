"""The demo's script fits the demo's agents."""

from pathlib import Path

import pytest

import a2a_gateway
from a2a_gateway.testing.demo import DEMO_TASK, direct_demo
from a2a_gateway.testing.script import ChatRequest

PROFILES = sorted((Path(a2a_gateway.__file__).parent / "demo_profiles").glob("*.md"))


def request_of(system: str, task: str) -> ChatRequest:
    return ChatRequest(1, {"messages": [{"role": "system", "content": system}, {"role": "user", "content": task}]})


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.stem)
def test_every_agent_of_the_demo_has_something_to_say_to_any_task(profile: Path) -> None:
    assert direct_demo(request_of(profile.read_text(), "Do something.")) is not None


def test_each_agent_says_something_else() -> None:
    steps = [direct_demo(request_of(profile.read_text(), DEMO_TASK)) for profile in PROFILES]
    assert len(PROFILES) == 4
    assert len({repr(step) for step in steps}) == 4


def test_an_agent_that_is_not_of_the_demo_is_left_to_others() -> None:
    assert direct_demo(request_of("You are a parrot.", DEMO_TASK)) is None
