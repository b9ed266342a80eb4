"""Render an admitted run as the request to a peer: the body in OpenAI's format, and the limits for the headers."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Final, assert_never

from a2a_gateway.runs.messages import (
    AnswerFormat,
    AssistantMessage,
    ImagePart,
    Message,
    Part,
    Sampling,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
)
from a2a_gateway.runs.model import AdmittedRun
from a2a_gateway.runs.ports import Hold
from delegate_tool.protocol.context import DelegationContext
from delegate_tool.protocol.limits import limits_of

_MARGIN: Final = 0.02
"""Share of its time that a run keeps for receiving the end of the answer."""


def render_body(run: AdmittedRun, model: str, *, max_output_tokens: int | None = None) -> dict[str, Any]:
    """Render the chat completion request for the peer's model.

    Args:
        max_output_tokens: the output that the budget allows. It replaces what the request asks for; None keeps that.
    """
    body: dict[str, Any] = {
        "model": model,
        "messages": [_message(message) for message in run.messages],
        "stream_options": {"include_usage": True},
        **_sampling(run.sampling),
    }
    if max_output_tokens is not None:
        body["max_completion_tokens"] = max_output_tokens
    if run.answer_format is not None:
        body["response_format"] = _answer_format(run.answer_format)
    return body


def limits_for_peer(
    run: AdmittedRun, hold: Hold, *, gateway_id: str, peer_id: str, conversation_id: str | None
) -> DelegationContext:
    """Return the limits for the peer: what the run has left, and no more money than the hold has reserved."""
    left = replace(
        limits_of(run.record.limits),
        budget_micro_usd=None if hold.budget_micro_usd is None else hold.reserved_micro_usd,
        timeout_s=run.timeout_s * (1 - _MARGIN),
        allowed_agents=_names_at(peer_id, run.record.limits.allowed_agents),
    )
    return DelegationContext(
        **asdict(left),
        depth=run.record.depth,
        via=(*run.via, gateway_id),
        trail=run.trail,
        narration=run.narration,
        idempotency_key=run.record.id,
        conversation_id=conversation_id,
        traceparent=run.traceparent,
        tracestate=run.tracestate,
    )


def _names_at(peer_id: str, allowed: frozenset[str] | None) -> frozenset[str] | None:
    """Return the allowed agents of a peer by their names there, without the peer's prefix; the peer may call no others for us."""
    prefix = f"{peer_id}/"
    return None if allowed is None else frozenset(name.removeprefix(prefix) for name in allowed if name.startswith(prefix))


def _message(message: Message) -> dict[str, Any]:
    match message:
        case SystemMessage(parts=parts):
            return {"role": "system", "content": _content(parts)}
        case UserMessage(parts=parts, name=name):
            return {"role": "user", "content": _content(parts), **({"name": name} if name else {})}
        case AssistantMessage(parts=parts, tool_calls=calls):
            rendered = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in calls
            ]
            return {"role": "assistant", "content": _content(parts) or None, **({"tool_calls": rendered} if calls else {})}
        case ToolMessage(tool_call_id=call_id, parts=parts):
            return {"role": "tool", "tool_call_id": call_id, "content": _content(parts)}
        case _:
            assert_never(message)


def _content(parts: tuple[Part, ...] | tuple[TextPart, ...]) -> str | list[dict[str, Any]]:
    if len(parts) == 1 and isinstance(parts[0], TextPart):
        return parts[0].text
    return [_part(part) for part in parts]


def _part(part: Part) -> dict[str, Any]:
    match part:
        case TextPart(text=text):
            return {"type": "text", "text": text}
        case ImagePart(url=url, detail=detail):
            return {"type": "image_url", "image_url": {"url": url, **({"detail": detail} if detail else {})}}
        case _:
            assert_never(part)


def _sampling(asked: Sampling) -> dict[str, Any]:
    named: Mapping[str, Any] = {
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "max_completion_tokens": asked.max_output_tokens,
        "stop": list(asked.stop) or None,
        "seed": asked.seed,
        "reasoning_effort": asked.reasoning_effort,
    }
    return {name: value for name, value in named.items() if value is not None}


def _answer_format(wanted: AnswerFormat) -> dict[str, Any]:
    if wanted.schema is None:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": wanted.name, "schema": wanted.schema}}
