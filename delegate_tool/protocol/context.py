"""What a caller asks for its run (`DelegationContext`), as request headers and as the `a2a` object of a body.

Every field is optional. `_FIELDS` is the whole syntax, one row for each field: its header, its name in a body, the codec of its
values, and how two values in one request combine. Encoding, decoding and combining walk the rows. A context decides nothing: the
gateway narrows its own limits by it, so it can only ask for less.

Standard library only. Knows neither OpenAI's format nor OpenHands nor the gateway.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from delegate_tool.protocol.fields import Header
from delegate_tool.protocol.limits import LIMITS, LimitPolicy
from delegate_tool.protocol.text import did_you_mean
from delegate_tool.protocol.values import COUNT_FROM_ZERO, ID_LIST, IDENTIFIER, PATH, TRACE, VISIBLE_ASCII, Codec, choice

CONTEXT_HEADING: Final = "\n\n# Context\n\n"
"""Separates a delegated task from its context, in the one message that the agent gets."""


class Narration(StrEnum):
    """Where an agent's text before its tool calls goes."""

    LIVE = "live"
    REASONING = "reasoning"
    NONE = "none"


class OnDisconnect(StrEnum):
    """What happens to a run whose client has disconnected."""

    CANCEL = "cancel"
    CONTINUE = "continue"


class ContextError(ValueError):
    """A header, or a field of a body's `a2a` object, that is malformed.

    Attributes:
        param: name of the header or field.
    """

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class DelegationContext(LimitPolicy):
    """What a caller asks for its run: limits for it and everything below it, and how it is to be run. None asks for nothing.

    Attributes:
        depth: as a foreign system counts; it can only raise the real depth.
        via: ids of the gateways that the request came through.
        trail: marks of the runs that led to the request, the nearest last.
        workspace: directory of the gateway's machine in which the agent is to work.
        conversation_id: of the conversation to continue.
    """

    depth: int | None = None
    via: tuple[str, ...] = ()
    trail: tuple[str, ...] = ()
    on_disconnect: OnDisconnect | None = None
    narration: Narration | None = None
    workspace: str | None = None
    idempotency_key: str | None = None
    conversation_id: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None

    def narrowed_by(self, other: "DelegationContext") -> "DelegationContext":
        """Combine two contexts of one request: the narrower limit wins, and `self` wins where neither value is narrower."""
        values: dict[str, Any] = {}
        for row in _FIELDS:
            mine, theirs = getattr(self, row.name), getattr(other, row.name)
            if mine is None or theirs is None:
                values[row.name] = theirs if mine is None else mine
            else:
                values[row.name] = row.combine(mine, theirs)
        return DelegationContext(**values)


@dataclass(frozen=True, slots=True)
class AgentCard:
    """One agent that may be called: its model id and what it is good at."""

    model: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class DelegationBinding:
    """What a gateway gives to the delegation tool of one run: endpoint, credential, and what is left of the limits.

    Attributes:
        token: the run's credential. It is kept out of `repr` and must never be persisted, logged or sent to an LLM.
        depth: of the run itself.
        timeout_s: time that was left when the binding was made; counted from when the runner begins the run.
        traceparent: of the run's own request (W3C); sent on unchanged, as is `tracestate`.
    """

    base_url: str
    token: str = field(repr=False)
    run_id: str
    self_agent: str
    agents: tuple[AgentCard, ...] = ()
    depth: int | None = None
    depth_left: int | None = None
    runs_left: int | None = None
    budget_left_micro_usd: int | None = None
    timeout_s: float | None = None
    traceparent: str | None = None
    tracestate: str | None = None


@dataclass(frozen=True, slots=True)
class _Field:
    """How one field of a context travels.

    Attributes:
        body: its name in a body's `a2a` object, or None if it has only a header.
        combine: return the value that holds where a request has two.
        key: the header in lower case, by which incoming headers are found.
    """

    name: str
    header: str
    body: str | None
    codec: Codec[Any]
    combine: Callable[[Any, Any], Any]
    key: str


def _first(first: object, _: object) -> object:
    return first


def _union(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))


def _row(
    name: str, header: Header, codec: Codec[Any], *, combine: Callable[[Any, Any], Any] = _first, in_body: bool = True
) -> _Field:
    return _Field(name, header.value, name if in_body else None, codec, combine, header.lower())


_FIELDS: Final = (
    *(_Field(row.name, row.header.value, row.field, row.codec, row.narrower, row.header.lower()) for row in LIMITS),
    _row("depth", Header.DEPTH, COUNT_FROM_ZERO, combine=max),  # it can only raise the real depth, so the larger is the narrower
    _row("via", Header.VIA, ID_LIST, combine=_union),
    _row("trail", Header.TRAIL, ID_LIST, combine=_union),
    _row("on_disconnect", Header.ON_DISCONNECT, choice(OnDisconnect)),
    _row("narration", Header.NARRATION, choice(Narration)),
    _row("workspace", Header.WORKSPACE, PATH),
    _row("idempotency_key", Header.IDEMPOTENCY_KEY, VISIBLE_ASCII),
    _row("conversation_id", Header.CONVERSATION_ID, IDENTIFIER),
    _row("traceparent", Header.TRACEPARENT, TRACE, in_body=False),
    _row("tracestate", Header.TRACESTATE, TRACE, in_body=False),
)
_HEADER_KEYS: Final = frozenset(row.key for row in _FIELDS)
_PREFIX: Final = "x-a2a-"
_REQUEST_HEADERS: Final = tuple(row.header for row in _FIELDS if row.key.startswith(_PREFIX))
# A proxy may send headers of an answer back. The last name belongs to the Agent2Agent protocol, which has the same prefix.
_NAMES: Final = frozenset({*(header.lower() for header in Header), "x-a2a-extensions"})
_SHOWN_CHARS: Final = 60
_BY_BODY_NAME: Final[Mapping[str, _Field]] = {row.body: row for row in _FIELDS if row.body is not None}


def encode_headers(context: DelegationContext) -> dict[str, str]:
    """Render a context as request headers. A field that asks for nothing has no header."""
    headers: dict[str, str] = {}
    for row in _FIELDS:
        value = getattr(context, row.name)
        if value is not None and value != ():
            headers[row.header] = row.codec.format(value)
    return headers


def decode_headers(headers: Mapping[str, str]) -> DelegationContext:
    """Read a context from request headers; names are matched without regard to case.

    A header that `items()` yields more than once is one list (RFC 9110, 5.3), so only fields that are lists may be repeated.

    Raises:
        ContextError: a header is malformed.
    """
    texts: dict[str, str] = {}
    for name, value in headers.items():
        key = name.lower()
        if key in _HEADER_KEYS:
            texts[key] = f"{texts[key]}, {value}" if key in texts else value
    if not texts:
        return DelegationContext()
    values = {row.name: _decode(row.header, row.codec, texts[row.key].strip()) for row in _FIELDS if row.key in texts}
    return DelegationContext(**values)


def unknown_headers(headers: Iterable[str]) -> list[str]:
    """Return the names with the prefix of this protocol that it does not have: misspelt ones, and those of later versions.

    A name with underscores is never one that it has, because many proxies drop such headers.
    """
    return [name for name in headers if name.lower().replace("_", "-").startswith(_PREFIX) and name.lower() not in _NAMES]


def refuse_header(name: str) -> ContextError:
    """Return the error for an unknown header: it names the header that was probably meant."""
    return _refuse_name(name[:_SHOWN_CHARS], name.replace("_", "-"), _REQUEST_HEADERS, prefix=_PREFIX)


def _refuse_name(shown: str, written: str, known: Collection[str], *, prefix: str = "") -> ContextError:
    """Return the error for an unknown name, with the one that was probably meant and all that are known."""
    meant = did_you_mean(written, known, prefix=prefix)
    return ContextError(shown, f"{shown} is not a known name{meant}; known are {', '.join(sorted(known))}")


def decode_body(values: object, *, param: str = "a2a") -> DelegationContext:
    """Read a context from a body's `a2a` object, with the header syntax for each value; numbers and lists are accepted too.

    Args:
        param: path of the object in the request, for errors; empty where the names have no path.

    Raises:
        ContextError: not an object, an unknown name, or a malformed value.
    """
    if not isinstance(values, Mapping):
        raise ContextError(param, f"{param} must be an object")
    decoded: dict[str, Any] = {}
    for key, value in values.items():
        row = _BY_BODY_NAME.get(str(key))
        shown = str(key)[:_SHOWN_CHARS]
        path = f"{param}.{shown}" if param else shown
        if row is None:
            raise _refuse_name(path, shown, _BY_BODY_NAME)
        if value is not None:
            decoded[row.name] = _decode(path, row.codec, _as_text(path, value))
    return DelegationContext(**decoded)


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


def _decode(param: str, codec: Codec[Any], text: str) -> Any:
    try:
        return codec.parse(text)
    except ValueError as error:
        raise ContextError(param, f"{param}: {error}") from None
