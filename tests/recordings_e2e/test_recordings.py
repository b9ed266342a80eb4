"""Real provider conversations, end to end: official client, gateway, OpenHands agent, recorded provider.

Every recording is served in the place of its provider; the gateway's profiles point there. What comes out must agree with the
table: texts, tokens, money and errors, streamed and not.
"""

import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion

from a2a_gateway.server.uvicorn_server import running_gateway
from a2a_gateway.settings import Settings
from tests.support.recordings import ANSWERED, FAILED, IMAGE, Recording, says
from tests.support.replay import Replay, load_recording, serve_replays

pytestmark = pytest.mark.anyio

_IMAGE = Recording(IMAGE, "openai/o4-mini", "/v1")
_ALL = (*ANSWERED, *FAILED, _IMAGE)
_OPENHANDS_TOOLS = ["terminal", "file_editor", "task_tracker"]


@dataclass(frozen=True, slots=True)
class Stage:
    """A gateway whose agents talk to recorded providers."""

    client: openai.AsyncOpenAI
    replays: Mapping[str, Replay]

    def replay(self, recording: Recording) -> Replay:
        """Rewind a recording."""
        replay = self.replays[_name(recording)]
        replay.restart()
        return replay


@dataclass(frozen=True, slots=True)
class Reply:
    """What a client got for one request, in one form for both kinds of answer."""

    text: str
    finish_reason: str
    usage: Mapping[str, Any]
    conversation_id: str


def _name(recording: Recording) -> str:
    return re.sub(r"[^a-z0-9]+", "-", recording.file.removesuffix(".yaml"))


def _write_profile(home: Path, recording: Recording, root_url: str) -> None:
    name = _name(recording)
    llm = {"model": recording.model, "base_url": f"{root_url}/{name}{recording.base}", "api_key": "sk-recorded"}
    if recording.api_version:
        llm["api_version"] = recording.api_version
    (home / "profiles" / f"{name}.json").write_text(json.dumps(llm))
    block: dict[str, object] = {"stream": recording.streams}
    if recording.prices:
        block |= {"input_usd_per_mtok": float(recording.prices[0]), "output_usd_per_mtok": float(recording.prices[1])}
    front = {
        "name": name,
        "description": "Replays.",
        "model": name,
        "tools": _OPENHANDS_TOOLS if recording.file.startswith("openhands/") else [],
        "condenser": "none",  # which would ask the LLM for a summary of a conversation that is too long
        "a2a": block,
    }
    (home / "agents" / f"{name}.md").write_text(f"---\n{json.dumps(front)}\n---\nAnswer.\n")


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    home = tmp_path_factory.mktemp("recordings")
    (home / "profiles").mkdir()
    (home / "agents").mkdir()
    replays = {_name(recording): Replay(recording.interactions) for recording in _ALL}
    async with serve_replays(replays) as root_url:
        for recording in _ALL:
            _write_profile(home, recording, root_url)
        settings = Settings(
            port=0, data_dir=home / "data", profiles=(home / "agents",), llm_retries=0, shell_pool_size=0, budget_usd="none"
        )
        async with running_gateway(settings, {"OH_PERSISTENCE_DIR": str(home)}, owns_process=True) as running:
            announcement = await running.ready()
            assert announcement is not None
            assert announcement.problems == ()
            async with openai.AsyncOpenAI(
                base_url=announcement.url, api_key=announcement.first_key, max_retries=0, timeout=60
            ) as client:
                yield Stage(client, replays)


async def _ask(stage: Stage, recording: Recording, content: object, *, stream: bool, conversation_id: str | None = None) -> Reply:
    headers = {"X-A2A-Narration": "none", "X-A2A-Max-Turns": str(recording.max_turns)}
    if conversation_id:
        headers["X-OpenHands-ServerConversation-ID"] = conversation_id
    create = stage.client.chat.completions.with_raw_response.create
    messages: Any = [{"role": "user", "content": content}]
    options: Any = {"stream_options": {"include_usage": True}} if stream else {}
    # A failed request that is sent again within a minute would get the same failure without a run, so the two modes differ.
    options["user"] = "streams" if stream else "waits"
    raw = await create(model=f"openhands_{_name(recording)}", messages=messages, stream=stream, extra_headers=headers, **options)
    conversation = raw.headers["X-OpenHands-ServerConversation-ID"]
    answer: Any = raw.parse()
    if isinstance(answer, ChatCompletion):
        assert answer.usage is not None
        choice = answer.choices[0]
        return Reply(choice.message.content or "", choice.finish_reason, answer.usage.model_dump(), conversation)
    chunks = [chunk async for chunk in answer]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    (finish_reason,) = (chunk.choices[0].finish_reason for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason)
    return Reply(text, finish_reason, chunks[-1].usage.model_dump(), conversation)


async def _ask_all(stage: Stage, recording: Recording, *, stream: bool) -> list[Reply]:
    replies: list[Reply] = []
    for ask in recording.asks:
        continued = replies[-1].conversation_id if replies else None
        replies.append(await _ask(stage, recording, ask, stream=stream, conversation_id=continued))
    return replies


def _tokens(replies: list[Reply], *path: str) -> int:
    total = 0
    for reply in replies:
        value: Any = reply.usage
        for key in path:
            value = value[key]
        total += value
    return total


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("recording", ANSWERED, ids=lambda each: each.file)
async def test_a_recorded_conversation_gives_its_texts_tokens_and_cost(stage: Stage, recording: Recording, stream: bool) -> None:
    replay = stage.replay(recording)
    replies = await _ask_all(stage, recording, stream=stream)

    assert replay.mismatches == []
    assert replay.is_over
    assert all(says(expected, reply.text) for expected, reply in zip(recording.answers, replies, strict=True)), replies
    assert replies[-1].finish_reason == recording.finish_reason
    if recording.usage is not None:
        assert _tokens(replies, "prompt_tokens") == recording.usage.prompt
        assert _tokens(replies, "completion_tokens") == recording.usage.completion
        assert _tokens(replies, "prompt_tokens_details", "cached_tokens") == recording.usage.cached
        assert _tokens(replies, "completion_tokens_details", "reasoning_tokens") == recording.usage.reasoning
        assert all(reply.usage["cost_details"]["complete"] for reply in replies)  # without a price a local server is free
    if recording.cost_usd is not None:
        cost = sum(Decimal(reply.usage["cost_details"]["self"]) for reply in replies)
        # Each request's cost is rounded once, to whole micro-USD.
        assert abs(cost - recording.cost_usd) <= len(replies) * Decimal("0.0000005")
        assert all(reply.usage["cost"] == float(reply.usage["cost_details"]["self"]) for reply in replies)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("recording", FAILED, ids=lambda each: each.file)
async def test_a_recorded_error_is_the_right_error(stage: Stage, recording: Recording, stream: bool) -> None:
    replay = stage.replay(recording)
    with pytest.raises(openai.APIError) as raised:
        await _ask_all(stage, recording, stream=stream)

    assert replay.mismatches == []
    assert replay.is_over
    assert raised.value.code == recording.error_code
    if recording.cost_usd is not None and isinstance(raised.value, openai.APIStatusError):
        cost = Decimal(raised.value.response.headers["X-A2A-Cost-Self-USD"])
        assert abs(cost - recording.cost_usd) <= Decimal("0.0000005")
    assert "sk-recorded" not in str(raised.value)
    if recording.retry_after_s is not None and isinstance(raised.value, openai.APIStatusError):
        assert raised.value.response.headers["retry-after"] == str(recording.retry_after_s)


async def test_an_image_reaches_the_provider_as_it_was_sent(stage: Stage) -> None:
    replay = stage.replay(_IMAGE)
    (recorded,) = load_recording(IMAGE)
    parts = next(message["content"] for message in recorded.request_body["messages"] if isinstance(message["content"], list))
    reply = await _ask(stage, _IMAGE, parts, stream=False)

    (request,) = replay.requests
    sent = [part for message in request.body["messages"] if isinstance(message["content"], list) for part in message["content"]]
    image = next(part for part in parts if part["type"] == "image_url")
    assert [part["image_url"]["url"] for part in sent if part["type"] == "image_url"] == [image["image_url"]["url"]]
    assert reply.text.endswith("increasing from $100 M in 2020 to $300 M in 2024.")
    assert Decimal(reply.usage["cost_details"]["self"]) == Decimal("0.002790")  # 712 at 1.10, 456 at 4.40
