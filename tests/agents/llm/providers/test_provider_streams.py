"""What providers and home-made servers send, byte by byte, and what a real agent makes of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from a2a_gateway.runs.events import Failed, Finished, ReasoningDelta, ToolFinished
from tests.agents.driver import Ran, a_recipe, driving, user
from tests.agents.llm.provider_bytes import (
    ANTHROPIC,
    AZURE,
    CHAT_HEAD,
    FAMILIES,
    GEMINI,
    OLLAMA,
    OPENAI,
    OPENROUTER,
    RESPONSES,
    USAGE,
    Call,
    Family,
    bedrock_frame,
    chat_call,
    chat_chunk,
)
from tests.support.raw_llm import RawLLM, RawReply, document_reply, stream_reply

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
        pytest.param([[{}, {}]], id="no index in one chunk"),
        pytest.param([[{"index": 0, "id": "x"}], [{"index": 0, "id": "y"}]], id="the same index and ids"),
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


@pytest.mark.parametrize(("family", "is_whole"), [(OPENAI, True), (ANTHROPIC, False)], ids=["openai", "anthropic"])
async def test_a_connection_that_breaks_ends_an_answer_only_after_its_mark(
    tmp_path: Path, family: Family, is_whole: bool
) -> None:
    reason = family.line(family.end("stop")[0])
    ran, _ = await run(tmp_path, family, family.stream(*family.saying("half an", is_cut=True), reason, is_cut=True))
    assert (ran.content, isinstance(ran.outcome, Finished)) == ("half an", is_whole)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(b'data: {"choices": [{"del', id="half an event at the end"),
        pytest.param(OPENAI.line(chat_chunk({"content": "x"})).encode("utf-8").replace(b"x", b"\xc3"), id="not UTF-8"),
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
    used = family.line({**CHAT_HEAD, "choices": None, "usage": USAGE})
    lines = [*family.saying("ab ", is_cut=True), *family.saying("cd", is_cut=True), last, used, family.mark]
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
        return document_reply(with_head(family.whole("", [thinking]), head))
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


@pytest.mark.parametrize("family", [OPENAI, OLLAMA], ids=lambda family: family.name)
@pytest.mark.parametrize("is_gzip", [False, True], ids=["byte by byte", "compressed"])
async def test_a_stream_may_be_cut_anywhere_and_compressed(tmp_path: Path, family: Family, is_gzip: bool) -> None:
    said = "naïve 🎉\u2028tëxt"
    data = "".join(family.saying(said)).replace("\n", "\r\n").encode()
    ran, _ = await run(tmp_path, family, family.stream(*(data[at : at + 1] for at in range(len(data))), is_gzip=is_gzip))
    assert ran.outcome == Finished(said)


async def test_a_file_is_written_with_every_separator_that_the_llm_wrote(tmp_path: Path) -> None:
    call = creating("a", SEPARATORS.replace("\x1c", " "))
    chunk = chat_chunk({"tool_calls": [{**chat_call(call), "index": 0, "id": "x"}]})
    arguments = chunk["choices"][0]["delta"]["tool_calls"][0]["function"]
    arguments["arguments"] = json.dumps(call.arguments, ensure_ascii=False)
    lines = [OPENAI.line(event) for event in [chunk, *OPENAI.end("tool_calls")]]
    ran, _ = await run(tmp_path, OPENAI, OPENAI.stream(*lines), OPENAI.stream(*OPENAI.saying("Done.")), tools=("file_editor",))
    assert ran.outcome == Finished("Done.")
    assert (tmp_path / "workspace" / "a").read_bytes().decode() == call.arguments["file_text"]


SPELLINGS: list[dict[str, Any]] = [
    {"content": "a"},
    {"content": [{"type": "text", "text": "b"}, "c", {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
    {"content": {"text": "d"}},
    {"content": 5},
    {"content": None, "refusal": "e"},
    {"content": "f", "images": 7, "audio": 7, "annotations": 7, "provider_specific_fields": 7},
]


@pytest.mark.parametrize("family", [OPENAI, AZURE], ids=lambda family: family.name)
async def test_text_is_read_however_it_is_spelt(tmp_path: Path, family: Family) -> None:
    as_choices = [{"text": "g"}, {"message": {"role": "assistant", "content": "h"}}, {"delta": None, "text": "i"}]
    chunks = [*map(chat_chunk, SPELLINGS), *({**CHAT_HEAD, "choices": [choice]} for choice in as_choices)]
    ran, _ = await run(tmp_path, family, family.stream(*map(family.line, chunks), *family.saying()))
    assert ran.outcome == Finished("abcd5efghi")
    assert ReasoningDelta("hm") in ran.events


@pytest.mark.parametrize("spelling", SPELLINGS, ids=str)
async def test_the_text_of_a_whole_answer_is_read_however_it_is_spelt(tmp_path: Path, spelling: dict[str, Any]) -> None:
    answer = {**OPENAI.whole("", []), "choices": [{"index": 0, "finish_reason": "stop", "message": spelling}]}
    ran, _ = await run(tmp_path, OPENAI, document_reply(answer), stream=False)
    assert isinstance(ran.outcome, Finished)
    assert ran.outcome.text in {"a", "bc", "d", "5", "e", "f"}


async def test_a_call_without_a_name_fails_instead_of_being_dropped(tmp_path: Path) -> None:
    nameless = chat_chunk({"content": "ab", "tool_calls": [{"index": 0, "id": "x", "function": {"arguments": "{}"}}]})
    ran, _ = await run(tmp_path, OPENAI, OPENAI.stream(OPENAI.line(nameless), *OPENAI.saying()))
    assert (ran.code, ran.content) == ("llm_unavailable", "ab")


@pytest.mark.parametrize("texts", [("Use ", "<think> and </think>", " here."), ("<think>", "hm", "</think>", "Use <think>!")])
async def test_ollama_s_answer_may_quote_the_tags_of_reasoning(tmp_path: Path, texts: tuple[str, ...]) -> None:
    ran, _ = await run(tmp_path, OLLAMA, OLLAMA.stream(*OLLAMA.saying(*texts)))
    thinks = texts[0] == "<think>"
    assert ran.outcome == Finished("Use <think>!" if thinks else "".join(texts))
    assert (ReasoningDelta("hm") in ran.events) == thinks


async def test_an_error_in_ollama_s_stream_is_the_provider_s(tmp_path: Path) -> None:
    ran, _ = await run(tmp_path, OLLAMA, OLLAMA.stream(*OLLAMA.saying("half an", is_cut=True), '{"error": "out of memory"}\n'))
    assert isinstance(ran.outcome, Failed)
    assert (ran.code, ran.content) == ("llm_unavailable", "half an")
    assert "out of memory" in ran.outcome.error.message


async def test_arguments_that_anthropic_s_stream_has_at_the_start_of_a_block_are_used(tmp_path: Path) -> None:
    call = creating("a", "a!", id="x")
    events = [event for event in ANTHROPIC.calls([call]) if event["type"] != "content_block_delta"]
    events[1]["content_block"]["input"] = call.arguments
    lines = [ANTHROPIC.line(event) for event in [*events, *ANTHROPIC.end("tool_calls")]]
    said = ANTHROPIC.stream(*ANTHROPIC.saying("Done."))
    ran, _ = await run(tmp_path, ANTHROPIC, ANTHROPIC.stream(*lines), said, tools=("file_editor",))
    assert ran.outcome == Finished("Done.")
    assert (tmp_path / "workspace" / "a").read_text() == "a!"


@pytest.mark.parametrize("is_cut", [False, True])
async def test_bedrock_s_binary_stream_is_an_answer_with_its_end_only(tmp_path: Path, is_cut: bool) -> None:
    delta = {"contentBlockIndex": 0, "delta": {"text": SEPARATORS}}
    frames = [bedrock_frame("messageStart", {"role": "assistant"}), bedrock_frame("contentBlockDelta", delta)]
    if not is_cut:
        frames += [bedrock_frame("messageStop", {"stopReason": "end_turn"})]
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "aws_region_name": "us-east-1"}
    bedrock = replace(OPENAI, model="bedrock/anthropic.claude-3-haiku-20240307-v1:0", path="", fields=keys)
    ran, _ = await run(tmp_path, bedrock, stream_reply(*frames, content_type="application/vnd.amazon.eventstream"))
    assert ran.content == SEPARATORS
    assert isinstance(ran.outcome, Failed if is_cut else Finished)


@pytest.mark.parametrize(("content_type", "indent"), [("application/json", 2), ("text/event-stream", None)])
@every_family
async def test_a_server_that_does_not_stream_is_read_as_a_whole(
    tmp_path: Path, family: Family, content_type: str, indent: int | None
) -> None:
    documents = family.whole("", [Call("think", {"thought": "hm"})]), family.whole("It is 42.", [])
    replies = [stream_reply(json.dumps(document, indent=indent), content_type=content_type) for document in documents]
    ran, _ = await run(tmp_path, family, *replies)
    assert ran.outcome == Finished("It is 42.")
    assert [event.tool for event in ran.events if isinstance(event, ToolFinished)] == ["think"]
    assert [(charge.usage.prompt, charge.usage.completion) for charge in ran.meter.charges.values()] == [(1000, 100)] * 2


@pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(
    ("family", "names"),
    [
        (ANTHROPIC, {"id", "model", "usage", "stop_reason"}),
        (GEMINI, {"modelVersion", "responseId", "usageMetadata", "role"}),
        (OLLAMA, {"model", "created_at", "done_reason", "prompt_eval_count", "eval_count"}),
    ],
    ids=["anthropic", "gemini", "ollama"],
)
async def test_what_stands_beside_an_answer_in_other_formats_may_be_null(
    tmp_path: Path, family: Family, names: set[str], is_streamed: bool
) -> None:
    events = [with_nulls(event, names) for event in [*family.texts(["ab ", "cd"]), *family.end("stop")]]
    document = document_reply(with_nulls(family.whole("ab cd", []), names))
    ran, _ = await run(
        tmp_path, family, family.stream(*map(family.line, events)) if is_streamed else document, stream=is_streamed
    )
    assert ran.outcome == Finished("ab cd")
    (charge,) = ran.meter.charges.values()
    assert charge.cost_micro_usd


def with_nulls(value: Any, names: set[str]) -> Any:
    if isinstance(value, list):
        return [with_nulls(item, names) for item in value]
    if isinstance(value, dict):
        return {name: None if name in names else with_nulls(item, names) for name, item in value.items()}
    return value
