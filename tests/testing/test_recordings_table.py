"""The table of recordings agrees with the recordings: read here from the recorded bytes, without any LLM library."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from a2a_gateway.runs.model import TokenUsage
from tests.support.recordings import ANSWERED, FAILED, IMAGE, Recording
from tests.support.replay import RECORDINGS, Interaction, events_of, load_recording


def test_every_recording_is_used() -> None:
    used = [recording.file for recording in (*ANSWERED, *FAILED)] + [IMAGE]
    assert sorted(used) == sorted(str(path.relative_to(RECORDINGS)) for path in RECORDINGS.rglob("*.yaml"))


@pytest.mark.parametrize("recording", [each for each in (*ANSWERED, *FAILED) if each.usage], ids=lambda each: each.file)
def test_expected_tokens_are_the_recorded_ones(recording: Recording) -> None:
    recorded = sum((_usage(interaction) for interaction in recording.interactions), TokenUsage())
    assert recording.usage is not None
    assert (recording.usage.prompt, recording.usage.completion, recording.usage.cached) == (
        recorded.prompt,
        recorded.completion,
        recorded.cached,
    )


@pytest.mark.parametrize("recording", FAILED, ids=lambda each: each.file)
def test_only_what_ends_badly_is_expected_to_fail(recording: Recording) -> None:
    assert recording.error_code is not None
    assert not recording.answers


def test_the_costs_that_openhands_logged_add_up_to_the_expected_one() -> None:
    (recording,) = (each for each in ANSWERED if each.file == "openhands/sdk_loop_claude_sonnet4.yaml")
    assert recording.cost_usd is not None
    logged = sum(interaction.recorded_cost_usd or 0 for interaction in recording.interactions)
    assert round(logged, 9) == float(recording.cost_usd)


def test_the_costs_that_providers_reported_add_up_to_the_expected_ones() -> None:
    for file in ("openrouter/basic_cost.yaml", "openrouter/stream_tools_4turns.yaml"):
        (recording,) = (each for each in ANSWERED if each.file == file)
        assert recording.cost_usd is not None
        reported = sum(usage.get("cost", 0) for each in recording.interactions for usage in _usages(each))
        assert round(reported, 9) == float(recording.cost_usd)


@pytest.mark.parametrize("file", [each.file for each in (*ANSWERED, *FAILED) if each.streams])
def test_the_pieces_of_a_stream_join_to_the_stream(file: str) -> None:
    for interaction in load_recording(file):
        pieces = list(events_of(interaction.body))
        assert "".join(pieces) == interaction.body
        assert all(piece.strip() for piece in pieces)


def _usage(interaction: Interaction) -> TokenUsage:
    """Later reports of one answer replace earlier ones, key by key, as providers mean it."""
    merged: dict[str, Any] = {}
    for usage in _usages(interaction):
        merged |= {key: value for key, value in usage.items() if value is not None}
    if "promptTokenCount" in merged:
        completion = merged["candidatesTokenCount"] + merged.get("thoughtsTokenCount", 0)
        return TokenUsage(merged["promptTokenCount"], completion)
    if "cache_read_input_tokens" in merged and "input_tokens" in merged:
        read, written = merged["cache_read_input_tokens"], merged["cache_creation_input_tokens"]
        return TokenUsage(merged["input_tokens"] + read + written, merged["output_tokens"], cached=read)
    kind = "input" if "input_tokens" in merged else "prompt"
    cached = (merged.get(f"{kind}_tokens_details") or {}).get("cached_tokens", 0)
    made = merged.get("output_tokens", merged.get("completion_tokens", 0))
    return TokenUsage(merged.get(f"{kind}_tokens", 0), made, cached=cached)


def _usages(interaction: Interaction) -> Iterator[Mapping[str, Any]]:
    if not interaction.is_stream:
        yield json.loads(interaction.body).get("usage") or {}
        return
    for line in interaction.body.splitlines():
        if line.startswith("data:") and line != "data: [DONE]":
            event = json.loads(line.removeprefix("data:"))
            for holder in (event, event.get("message") or {}, event.get("response") or {}):
                yield holder.get("usage") or holder.get("usageMetadata") or {}
