"""How the values of headers, and of a body's `a2a` object, are written: one codec for each kind of value.

Standard library only.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import quote, unquote
from uuid import UUID

from delegate_tool.protocol.money import format_usd, parse_usd

MODEL_PREFIX: Final = "openhands_"
"""A profile `reviewer` is served as the model `openhands_reviewer`: the prefix of OpenHands' own gateway."""
SELF: Final = "self"
"""Model id by which an agent delegates to its own profile."""
MAX_COUNT: Final = 10**9
"""The largest count, and the longest duration in seconds."""
_TRACE_CHARS: Final = 512
_PATH_CHARS: Final = 1024
_VISIBLE_ASCII: Final = re.compile(r"[\x21-\x7e]+")
_MODEL_ID: Final = re.compile(r"[A-Za-z0-9@~][A-Za-z0-9._/:@+~-]{0,199}")
_COUNT: Final = re.compile(r"[0-9]{1,10}")
_SECONDS: Final = re.compile(r"[0-9]{1,10}(\.[0-9]{1,9})?")


@dataclass(frozen=True, slots=True, eq=False)
class Codec[T]:
    """How values of one kind are written.

    Attributes:
        syntax: for the documentation.
        parse: read the text of a header. Raises `ValueError`, which states what the text must be.
        format: write the text of a header.
        to_json: write the value for JSON.
    """

    syntax: str
    parse: Callable[[str], T]
    format: Callable[[T], str]
    to_json: Callable[[T], object]


def can_be_key(text: str) -> bool:
    """Return whether a text can be sent as an API key. HTTP clients quote one that cannot, such as one with a line break."""
    return _VISIBLE_ASCII.fullmatch(text) is not None


def full_model_id(name: str) -> str:
    """Complete a model id whose prefix `openhands_` is left out. `self` and models of peers (`peer/model`) stay as they are."""
    return name if name.startswith(MODEL_PREFIX) or "/" in name or name == SELF else MODEL_PREFIX + name


def is_model_id(text: str) -> bool:
    """Return whether a text can name an agent in a comma-separated list."""
    return _MODEL_ID.fullmatch(text) is not None


def choice[E: StrEnum](choices: type[E]) -> Codec[E]:
    """Make the codec of a value that is one of a few words."""

    def parse(text: str) -> E:
        try:
            return choices(text.lower())
        except ValueError:
            raise ValueError(f"must be one of {', '.join(choices)}") from None

    return Codec(", ".join(f"`{word}`" for word in choices), parse, str, str)


def _count(minimum: int) -> Codec[int]:
    def parse(text: str) -> int:
        if not _COUNT.fullmatch(text) or not minimum <= (count := int(text)) <= MAX_COUNT:
            raise ValueError(f"must be an integer from {minimum} to {MAX_COUNT}")
        return count

    return Codec(f"integer ≥ {minimum}", parse, str, int)


def _parse_seconds(text: str) -> float:
    if not _SECONDS.fullmatch(text) or not 0 < (seconds := float(text)) <= MAX_COUNT:
        raise ValueError(f"must be a number of seconds such as 30 or 2.5, more than 0 and at most {MAX_COUNT}")
    return seconds


def _format_seconds(seconds: float) -> str:
    return f"{max(seconds, 0.001):.3f}".rstrip("0").rstrip(".")  # 0 is not a valid duration


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


def _parse_uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise ValueError("must be a UUID, the one of an earlier result") from None


def _parse_path(text: str) -> str:
    try:
        path = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("must be UTF-8, percent-encoded") from None
    parts = path.split("/")
    if not path.startswith("/") or ".." in parts or not path.isprintable() or len(path) > _PATH_CHARS:
        raise ValueError(f"must be an absolute path without `..` and control characters, of at most {_PATH_CHARS} characters")
    return path


def _parse_trace(text: str) -> str | None:
    # W3C: drop a trace context that cannot be read; it is not an error of the caller. The rest must fit into a header again.
    return text if len(text) <= _TRACE_CHARS and text.isascii() and text.isprintable() else None


def _format_set(items: frozenset[str]) -> str:
    return ",".join(sorted(items))


COUNT: Final = _count(1)
COUNT_FROM_ZERO: Final = _count(0)
MONEY: Final = Codec[int]("decimal, ≤ 6 places", parse_usd, format_usd, format_usd)
SECONDS: Final = Codec[float]("seconds, decimal", _parse_seconds, _format_seconds, float)
ID_LIST: Final = Codec[tuple[str, ...]]("comma list of ids", _parse_list, ",".join, list)
AGENTS: Final = Codec[frozenset[str]]("comma list of models", lambda text: frozenset(_parse_list(text)), _format_set, sorted)
VISIBLE_ASCII: Final = Codec[str]("1 to 255 visible ASCII", _parse_visible, str, str)
PATH: Final = Codec[str]("absolute path, percent-encoded", _parse_path, quote, str)
IDENTIFIER: Final = Codec[str]("UUID", _parse_uuid, str, str)
TRACE: Final = Codec[str | None]("W3C", _parse_trace, str, str)
