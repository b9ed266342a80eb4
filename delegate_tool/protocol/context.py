"""The delegation context: what travels with a call, and its header codec.

Owns the names and the syntax of the `X-A2A-*` headers, once, for sender and receiver. Standard library only. It knows nothing of
OpenAI's format, of OpenHands or of the gateway; it decides nothing: a context only ever asks for *less* than the receiver allows.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Final
from uuid import UUID

from delegate_tool.protocol.money import format_usd, parse_usd

PROTOCOL_VERSION: Final = "1"
IDEMPOTENCY_HEADER: Final = "Idempotency-Key"
CONVERSATION_HEADER: Final = "X-OpenHands-ServerConversation-ID"
CONTEXT_HEADING: Final = "\n\n# Context\n\n"
"""What stands between a delegated task and its context, in the one message that the agent gets."""
_MAX_INT: Final = 10**9
_TRACE_CHARS: Final = 512
_VISIBLE_ASCII: Final = re.compile(r"[\x21-\x7e]+")
_MODEL_ID: Final = re.compile(r"[A-Za-z0-9@~][A-Za-z0-9._/:@+~-]{0,199}")


def can_be_key(text: str) -> bool:
    """Whether a text can be sent as a key. HTTP clients quote one that cannot, a line break in it say, in their errors."""
    return _VISIBLE_ASCII.fullmatch(text) is not None


class Narration(StrEnum):
    """Where an agent's text before its tool calls goes."""

    LIVE = "live"
    REASONING = "reasoning"
    NONE = "none"


class OnDisconnect(StrEnum):
    """What a lost client means for its run."""

    CANCEL = "cancel"
    CONTINUE = "continue"


class ContextError(ValueError):
    """A header or field of the delegation context that cannot be read.

    Attributes:
        param: name of the offending header or field.
    """

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class DelegationContext:
    """What a caller asks for its run and everything below it; None asks for nothing.

    Every limit can only narrow what the receiver allows. `budget_micro_usd` is money, `timeout_s` a duration from now.
    """

    max_depth: int | None = None
    depth: int | None = None
    budget_micro_usd: int | None = None
    max_runs: int | None = None
    max_breadth: int | None = None
    timeout_s: float | None = None
    max_turns: int | None = None
    allowed_agents: frozenset[str] | None = None
    via: tuple[str, ...] = ()
    trail: tuple[str, ...] = ()
    on_disconnect: OnDisconnect | None = None
    narration: Narration | None = None
    idempotency_key: str | None = None
    conversation_id: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None

    def narrowed_by(self, other: "DelegationContext") -> "DelegationContext":
        """Combine two contexts of one request: the narrower limit wins, `self` wins where nothing can be narrower."""
        changes: dict[str, object] = {}
        for name in ("max_depth", "budget_micro_usd", "max_runs", "max_breadth", "timeout_s", "max_turns"):
            changes[name] = _least(getattr(self, name), getattr(other, name))
        # A claimed depth can only raise the real one, so the narrower of two claims is the larger.
        claims = [claim for claim in (self.depth, other.depth) if claim is not None]
        changes["depth"] = max(claims) if claims else None
        if other.allowed_agents is not None:
            mine = self.allowed_agents
            changes["allowed_agents"] = other.allowed_agents if mine is None else mine & other.allowed_agents
        for name in ("via", "trail"):
            changes[name] = tuple(dict.fromkeys((*getattr(self, name), *getattr(other, name))))
        for name in ("on_disconnect", "narration", "idempotency_key", "conversation_id", "traceparent", "tracestate"):
            changes[name] = getattr(self, name) if getattr(self, name) is not None else getattr(other, name)
        return replace(self, **changes)  # type: ignore[arg-type]  # the names above are fields of this class


@dataclass(frozen=True, slots=True)
class AgentCard:
    """One agent that may be called: its model id and what it is good at."""

    model: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class DelegationBinding:
    """What a gateway hands to the delegation tool of one run: where to call, as whom, and what is left.

    `token` is the run's credential: it is kept out of `repr` and must never be persisted, logged or shown to a model.
    """

    base_url: str
    token: str = field(repr=False)
    run_id: str
    self_agent: str
    agents: tuple[AgentCard, ...] = ()
    depth: int | None = None  # of the run itself
    depth_left: int | None = None
    runs_left: int | None = None
    budget_left_micro_usd: int | None = None
    timeout_s: float | None = None  # left when the binding was handed to the runner
    traceparent: str | None = None  # W3C trace context of the run's own request, passed on as it came
    tracestate: str | None = None


def is_model_id(text: str) -> bool:
    """Whether a text can stand for an agent in a list of them."""
    return _MODEL_ID.fullmatch(text) is not None


def _least[T: (int, float)](first: T | None, second: T | None) -> T | None:
    if first is None or second is None:
        return second if first is None else first
    return min(first, second)


def _parse_int(minimum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,10}", text) or not minimum <= int(text) <= _MAX_INT:
            raise ValueError(f"must be an integer from {minimum} to {_MAX_INT}")
        return int(text)

    return parse


def _parse_seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,10}(\.[0-9]{1,9})?", text):
        raise ValueError("must be a number of seconds such as 30 or 2.5")
    seconds = float(text)
    if not 0 < seconds <= _MAX_INT or not math.isfinite(seconds):
        raise ValueError(f"must be more than 0 and at most {_MAX_INT} seconds")
    return seconds


def _parse_list(text: str) -> tuple[str, ...]:
    items = tuple(dict.fromkeys(item.strip() for item in text.split(",") if item.strip()))
    for item in items:
        if not is_model_id(item):
            raise ValueError(f"has an item that is not an id: {item[:60]!r}")
    return items


def _parse_visible(text: str) -> str:
    if len(text) > 255 or not _VISIBLE_ASCII.fullmatch(text):
        raise ValueError("must be 1 to 255 visible ASCII characters")
    return text


def _parse_trace(text: str) -> str | None:
    # W3C: a trace context that cannot be read is dropped; it is not the caller's error. What is kept must fit a header again.
    return text if len(text) <= _TRACE_CHARS and text.isascii() and text.isprintable() else None


def _parse_choice[E: StrEnum](choices: type[E]) -> Callable[[str], E]:
    def parse(text: str) -> E:
        try:
            return choices(text.lower())
        except ValueError:
            raise ValueError(f"must be one of {', '.join(choices)}") from None

    return parse


def _format_seconds(seconds: float) -> str:
    return f"{max(seconds, 0.001):.3f}".rstrip("0").rstrip(".")  # 0 is no duration


@dataclass(frozen=True, slots=True)
class _Codec:
    header: str
    decode: Callable[[str], object]
    encode: Callable[..., str] = str


_CODECS: Final[Mapping[str, _Codec]] = {
    "max_depth": _Codec("X-A2A-Max-Depth", _parse_int(0)),
    "depth": _Codec("X-A2A-Depth", _parse_int(0)),
    "budget_micro_usd": _Codec("X-A2A-Budget-USD", parse_usd, format_usd),
    "max_runs": _Codec("X-A2A-Max-Runs", _parse_int(0)),
    "max_breadth": _Codec("X-A2A-Max-Breadth", _parse_int(1)),
    "timeout_s": _Codec("X-A2A-Timeout", _parse_seconds, _format_seconds),
    "max_turns": _Codec("X-A2A-Max-Turns", _parse_int(1)),
    "allowed_agents": _Codec("X-A2A-Allowed-Agents", lambda t: frozenset(_parse_list(t)), lambda v: ",".join(sorted(v))),
    "via": _Codec("X-A2A-Via", _parse_list, ",".join),
    "trail": _Codec("X-A2A-Trail", _parse_list, ",".join),
    "on_disconnect": _Codec("X-A2A-On-Disconnect", _parse_choice(OnDisconnect)),
    "narration": _Codec("X-A2A-Narration", _parse_choice(Narration)),
    "idempotency_key": _Codec(IDEMPOTENCY_HEADER, _parse_visible),
    "conversation_id": _Codec(CONVERSATION_HEADER, lambda text: str(UUID(text))),
    "traceparent": _Codec("traceparent", _parse_trace),
    "tracestate": _Codec("tracestate", _parse_trace),
}

# Names under which the same values are accepted in a body's "a2a" object.
_BODY_NAMES: Final[Mapping[str, str]] = {
    "budget_usd": "budget_micro_usd",
    **{name: name for name in _CODECS if name not in ("budget_micro_usd", "traceparent", "tracestate")},
}


def encode_headers(context: DelegationContext) -> dict[str, str]:
    """Render a context as request headers; what it does not ask for has no header."""
    headers: dict[str, str] = {}
    for item in fields(context):
        value = getattr(context, item.name)
        if value is None or value == ():
            continue
        codec = _CODECS[item.name]
        headers[codec.header] = codec.encode(value)
    return headers


def decode_headers(headers: Mapping[str, str]) -> DelegationContext:
    """Read a context from request headers; names are matched without regard to case.

    A header that `items()` yields more than once is one list (RFC 9110, 5.3): only those that are lists may be.

    Raises:
        ContextError: a header is present and malformed.
    """
    lowered: dict[str, str] = {}
    for name, value in headers.items():
        key = name.lower()
        lowered[key] = f"{lowered[key]}, {value}" if key in lowered else value
    values: dict[str, object] = {}
    for name, codec in _CODECS.items():
        text = lowered.get(codec.header.lower())
        if text is not None:
            values[name] = _decode(codec.header, codec, text.strip())
    return DelegationContext(**values)  # type: ignore[arg-type]  # keys of _CODECS are the fields


def decode_body(values: object, *, param: str = "a2a") -> DelegationContext:
    """Read a context from a body's `"a2a"` object, with the header syntax for each value; numbers and lists are accepted too.

    Args:
        param: path of the object in the caller's eyes, empty where the names stand alone.

    Raises:
        ContextError: not an object, an unknown name, or a malformed value.
    """
    if not isinstance(values, Mapping):
        raise ContextError(param, f"{param} must be an object")
    decoded: dict[str, object] = {}
    for key, value in values.items():
        name = _BODY_NAMES.get(str(key))
        path = f"{param}.{str(key)[:60]}" if param else str(key)[:60]
        if name is None:
            raise ContextError(path, f"{path} is not a known name; known are {', '.join(sorted(_BODY_NAMES))}")
        if value is not None:
            decoded[name] = _decode(path, _CODECS[name], _as_text(path, value))
    return DelegationContext(**decoded)  # type: ignore[arg-type]  # values of _BODY_NAMES are fields


def _as_text(path: str, value: object) -> str:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        raise ContextError(path, f"{path} must not be a boolean")
    if isinstance(value, int | float):
        if isinstance(value, float) and not math.isfinite(value):
            raise ContextError(path, f"{path} must be finite")
        return str(value) if isinstance(value, int) else f"{value:.9f}".rstrip("0").rstrip(".")
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    raise ContextError(path, f"{path} must be a string, a number or a list of strings")


def _decode(param: str, codec: _Codec, text: str) -> object:
    try:
        return codec.decode(text)
    except ValueError as error:
        raise ContextError(param, f"{param}: {error}") from None
