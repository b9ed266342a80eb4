"""What providers and home-made servers send, byte by byte, and what a real agent makes of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from a2a_gateway.runs.events import Failed, Finished, ToolFinished
from tests.agents.driver import Ran, a_recipe, driving, user
from tests.agents.provider_bytes import (
    ANTHROPIC,
    AZURE,
    CHAT_HEAD,
    FAMILIES,
    GEMINI,
    OLLAMA,
    OPENAI,
    OPENROUTER,
    RESPONSES,
    Call,
    Family,
    chat_call,
    chat_chunk,
)
from tests.support.raw_llm import RawLLM, RawReply, whole

pytestmark = pytest.mark.anyio
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)

SEPARATORS = "one\u2028two\u2029three\u0085four\u001cfive"


@pytest.fixture(autouse=True)
def as_in_a_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER", "true")


async def run(
    directory: Path, family: Family, *replies: RawReply, tools: tuple[str, ...] = (), **fields: Any
) -> tuple[Ran, RawLLM]:
    """Have an agent work on an LLM that gives these replies."""
    server = RawLLM(replies)
    with server.in_thread() as url:
        async with driving(directory, a_recipe(family.llm(url, **fields), *tools)) as driver:
            return await driver.run(user("Go.")), server


@every_family
async def test_no_separator_of_lines_loses_content(tmp_path: Path, family: Family) -> None:
    ran, _ = await run(tmp_path, family, family.stream(*family.saying("tw\u2028o ", SEPARATORS)))
    assert ran.outcome == Finished(f"tw\u2028o {SEPARATORS}")
    assert ran.content == f"tw\u2028o {SEPARATORS}"
    (charge,) = ran.meter.charges.values()
    assert (charge.usage.prompt, charge.usage.completion, charge.complete) == (1000, 100, True)


STRANGE_IDS: list[dict[str, Any]] = [{}, {"id": None}, {"id": ""}, {"id": "call_1"}, {"id": "call_1"}, {"id": 7}]


@pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "whole"])
@every_family
async def test_each_of_two_calls_is_carried_out_once_whatever_their_ids(
    tmp_path: Path, family: Family, is_streamed: bool
) -> None:
    turns = []
    for turn, more in enumerate(STRANGE_IDS):
        calls = [creating(f"{turn}{x}", f"{x}!", **named(family, more)) for x in "ab"]
        turns.append(family.stream(*family.calling(*calls)) if is_streamed else family.document("", *calls))
    end = family.stream(*family.saying("Done.")) if is_streamed else family.document("Done.")
    ran, server = await run(tmp_path, family, *turns, end, tools=("file_editor",), stream=is_streamed)
    assert ran.outcome == Finished("Done.")
    files = {path.name: path.read_text() for path in (tmp_path / "workspace").iterdir()}
    assert files == {f"{turn}{x}": f"{x}!" for turn in range(len(STRANGE_IDS)) for x in "ab"}
    finished = [event for event in ran.events if isinstance(event, ToolFinished)]
    assert len(finished) == len(files) == len({event.call_id for event in finished})
    assert json.dumps(server.requests[-1].body).count("created successfully") == len(files)


@pytest.mark.parametrize(
    "deltas",
    [
        pytest.param([[{"index": 0}], [{"index": 0}]], id="the same index"),
        pytest.param([[{}], [{}]], id="no index"),
        pytest.param([[{}, {}]], id="no index in one chunk"),
        pytest.param([[{"index": 0}, {"index": 0}]], id="the same index in one chunk"),
        pytest.param([[{"index": None, "id": ""}], [{"index": None, "id": None}]], id="nulls"),
        pytest.param([[{"index": 0, "id": "x"}], [{"index": 0, "id": "y"}]], id="the same index and ids"),
        pytest.param([[{"index": 4, "id": "x"}], [{"index": 9, "id": "x"}]], id="the same id and indexes"),
    ],
)
async def test_calls_that_share_an_index_are_carried_out_with_their_own_arguments(
    tmp_path: Path, deltas: list[list[dict[str, Any]]]
) -> None:
    calls = iter([creating("a", "a!"), creating("b", "b!")])
    chunks = [chat_chunk({"tool_calls": [{**chat_call(next(calls)), **more} for more in delta]}) for delta in deltas]
    lines = [OPENAI.line(chunk) for chunk in [*chunks, *OPENAI.end("tool_calls")]]
    ran, _ = await run(tmp_path, OPENAI, OPENAI.stream(*lines), OPENAI.stream(*OPENAI.saying("Done.")), tools=("file_editor",))
    assert ran.outcome == Finished("Done.")
    assert {path.name: path.read_text() for path in (tmp_path / "workspace").iterdir()} == {"a": "a!", "b": "b!"}
    assert sum(isinstance(event, ToolFinished) for event in ran.events) == 2


def creating(path: str, text: str, **more: Any) -> Call:
    return Call("file_editor", {"command": "create", "path": path, "file_text": text}, more)


def named(family: Family, more: dict[str, Any]) -> dict[str, Any]:
    """Name an id as the family does."""
    return {**more, "call_id": more["id"]} if family is RESPONSES and "id" in more else more


@every_family
async def test_a_damaged_event_ends_the_call_and_is_never_skipped(tmp_path: Path, family: Family) -> None:
    lines = family.saying("ab ", "LOST ", "cd")
    ran, _ = await run(tmp_path, family, family.stream(*(line.replace("LOST", 'LO"ST') for line in lines)))
    assert isinstance(ran.outcome, Failed)
    assert (ran.code, ran.content) == ("llm_unavailable", "ab ")
    (charge,) = ran.meter.charges.values()
    assert charge.cost_micro_usd and not charge.complete


@every_family
async def test_a_stream_without_its_end_mark_is_no_answer(tmp_path: Path, family: Family) -> None:
    ran, _ = await run(tmp_path, family, family.stream(*family.saying("half an", is_cut=True)))
    assert isinstance(ran.outcome, Failed)
    assert (ran.code, ran.outcome.text) == ("llm_unavailable", "half an")
    (charge,) = ran.meter.charges.values()
    assert charge.cost_micro_usd and not charge.complete


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(b'data: {"choices": [{"del', id="half an event at the end"),
        pytest.param(OPENAI.line(chat_chunk({"content": "x"})).encode("utf-8").replace(b"x", b"\xc3"), id="not UTF-8"),
        pytest.param(b"oops\n\n", id="no field"),
        pytest.param(b"data: oops\n\n", id="no JSON"),
        pytest.param(b"data: [1]\n\n", id="no object"),
    ],
)
@pytest.mark.parametrize("has_ended", [False, True], ids=["before the finish reason", "after it"])
async def test_what_cannot_be_read_fails_the_call_wherever_it_stands(tmp_path: Path, damage: bytes, has_ended: bool) -> None:
    end = [OPENAI.line(chat_chunk({}, "stop"))]
    lines: list[str | bytes] = [*OPENAI.saying("ab", is_cut=True), *(end if has_ended else []), damage]
    ran, _ = await run(tmp_path, OPENAI, OPENAI.stream(*lines))
    assert (ran.code, ran.content) == ("llm_unavailable", "ab")


KEEP_ALIVES = [
    *(
        f"data: {json.dumps({**CHAT_HEAD, 'choices': choices})}\n\n"
        for choices in (None, [], [None], [{"index": 0, "delta": None}])
    ),
    *(
        "data: {}\n\n",
        "data: null\n\n",
        "data:\n\n",
        ": OPENROUTER PROCESSING\n\n",
        ":\n\n",
        "\n\n\n",
        "event: ping\ndata: now\n\n",
    ),
    *("event: message\n", "id: 7\n", "retry: 3000\n\n", "event: ping\ndata: {}\n\n"),
]


@pytest.mark.parametrize("family", [OPENAI, OPENROUTER, AZURE], ids=lambda family: family.name)
async def test_keep_alives_anywhere_change_nothing(tmp_path: Path, family: Family) -> None:
    last = family.line(chat_chunk(None, "stop"))
    lines = [*family.saying("ab ", is_cut=True), *family.saying("cd", is_cut=True), last, *family.saying()[1:]]
    ran, _ = await run(tmp_path, family, family.stream(*(part for line in lines for part in (*KEEP_ALIVES, line)), *KEEP_ALIVES))
    assert ran.outcome == Finished("ab cd")
    (charge,) = ran.meter.charges.values()
    assert (charge.usage.prompt, charge.usage.completion, charge.complete) == (1000, 100, True)


@pytest.mark.parametrize("family", [ANTHROPIC, GEMINI, OLLAMA, RESPONSES], ids=lambda family: family.name)
async def test_keep_alives_in_other_formats_change_nothing(tmp_path: Path, family: Family) -> None:
    between = (
        ["{}\n", "\n"]
        if family.is_lines
        else [": wait\n\n", "retry: 3000\n", "id: 1\n\n", "data: {}\n\n", "event: ping\ndata: {}\n\n"]
    )
    lines = [part for line in family.saying("ab ", "cd") for part in (*between, line)]
    ran, _ = await run(tmp_path, family, family.stream(*lines, *between))
    assert ran.outcome == Finished("ab cd")
    (charge,) = ran.meter.charges.values()
    assert (charge.usage.prompt, charge.usage.completion, charge.complete) == (1000, 100, True)


STRANGE_HEADS: list[dict[str, Any]] = [
    {"created": 1.7e9 + 0.5, "id": 7},
    {"created": "2026-01-01T00:00:00Z", "id": None, "object": None, "model": None},
    {"created": "1700000000", "model": 3},
    {"created": None, "id": 1.5, "object": 1},
    {},
]


@pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("family", [OPENAI, OPENROUTER, AZURE, RESPONSES], ids=lambda family: family.name)
async def test_an_answer_s_id_time_and_model_may_be_anything_or_missing(
    tmp_path: Path, family: Family, is_streamed: bool
) -> None:
    replies = [an_answer(family, head, is_streamed) for head in STRANGE_HEADS]
    end = family.stream(*family.saying("Done.")) if is_streamed else family.document("Done.")
    ran, server = await run(tmp_path, family, *replies, end, tools=("file_editor",), stream=is_streamed)
    assert ran.outcome == Finished("Done.")
    assert len(server.requests) == len(STRANGE_HEADS) + 1
    assert all(charge.usage.prompt == 1000 and charge.complete for charge in ran.meter.charges.values())


def an_answer(family: Family, head: dict[str, Any], is_streamed: bool) -> RawReply:
    thinking = Call("think", {"thought": f"hm {head}"})
    if not is_streamed:
        return whole(with_head(family.whole("", [thinking]), head))
    events = [*family.calls([thinking]), *family.end("tool_calls")]
    return family.stream(*(family.line(with_head(event, head)) for event in events))


def with_head(answer: dict[str, Any], head: dict[str, Any]) -> dict[str, Any]:
    """Replace what stands beside an answer's content; in OpenAI's Responses that is within the events."""
    if "response" in answer:
        return {**answer, "response": with_head(answer["response"], head)}
    if "output" in answer and "created" in head:
        head = {**head, "created_at": head["created"]}
    bare = {name: value for name, value in answer.items() if name not in {"id", "object", "created", "created_at", "model"}}
    return {**bare, **head} if "choices" in answer or "output" in answer else answer
