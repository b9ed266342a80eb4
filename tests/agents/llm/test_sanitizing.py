"""What an LLM writes and nobody can read, halves of surrogate pairs and JSON without end: it ends no run."""

import json
from pathlib import Path

import pytest

from a2a_gateway.agents.llm.sanitizing import sanitize_json
from a2a_gateway.runs.events import Finished, ToolFinished
from a2a_gateway.testing.script import Script, ScriptedCall, Step
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.agents.driver import a_recipe, an_llm, driving, sent, user

HALF = "\ud83d"
R = "\N{REPLACEMENT CHARACTER}"


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_half_of_a_pair_ends_no_run_wherever_the_llm_puts_it(llm: ScriptedLLM, tmp_path: Path, stream: bool) -> None:
    llm.default = Script(
        (
            Step(content=f"so{HALF}", reasoning=f"hm{HALF}", tool_calls=(ScriptedCall("think", {"thought": f"a{HALF}"}),)),
            Step(tool_calls=(ScriptedCall("think", json.dumps({"thought": f"b{HALF}"}, ensure_ascii=False)),)),
            Step(tool_calls=(ScriptedCall(f"no{HALF}", "{}"),)),
            Step(finish=f"end{HALF}"),
        )
    )
    async with driving(tmp_path, a_recipe(an_llm(llm.base_url, stream=stream))) as driver:
        ran = await driver.run(user("Go."))
    assert ran.outcome == Finished(f"so{R}\n\nend{R}")
    said = [message for message in sent(llm)["messages"] if message.get("tool_calls")]
    assert [message["tool_calls"][0]["function"]["name"] for message in said] == ["think", "think", f"no{R}"]
    assert [json.loads(message["tool_calls"][0]["function"]["arguments"]) for message in said] == [
        {"thought": f"a{R}"},
        {"thought": f"b{R}"},
        {},
    ]


@pytest.mark.anyio
async def test_arguments_that_are_nested_without_end_are_an_error_to_the_llm_only(llm: ScriptedLLM, tmp_path: Path) -> None:
    deep = '{"thought": ' + "[" * 15_000 + "]" * 15_000 + "}"
    written = {"thought": '\\"[' * 1000}
    llm.default = Script(
        (Step(tool_calls=(ScriptedCall("think", deep),)), Step(tool_calls=(ScriptedCall("think", written),)), Step(finish="end"))
    )
    async with driving(tmp_path, a_recipe(an_llm(llm.base_url))) as driver:
        ran = await driver.run(user("Go."))
    assert ran.outcome == Finished("end")
    assert [event.is_error for event in ran.events if isinstance(event, ToolFinished)] == [True, False]
    said = [message for message in sent(llm)["messages"] if message.get("tool_calls")]
    assert json.loads(said[1]["tool_calls"][0]["function"]["arguments"]) == written


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        (r'{"a": "\ud83d\ude00 \uD83D x"}', r'{"a": "\ud83d\ude00 \ufffd x"}'),
        (r'{"a": "\ude00\ud83d"}', r'{"a": "\ufffd\ufffd"}'),
        (r'{"a": "\\ud83d \\\ud83d"}', r'{"a": "\\ud83d \\\ufffd"}'),
        (r'{"a": "\ud83', r'{"a": "\ud83'),
        ('{"a": "\ud83d"', '{"a": "\N{REPLACEMENT CHARACTER}"'),
        ('{"a": "\ud83d\ude00"}', '{"a": "\N{GRINNING FACE}"}'),
        ("\\", "\\"),
    ],
)
def test_only_what_cannot_be_written_is_changed(text: str, mended: str) -> None:
    assert sanitize_json(text) == mended
