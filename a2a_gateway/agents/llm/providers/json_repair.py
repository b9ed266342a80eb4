"""Repair JSON that servers send: fields that are missing, null or of the wrong type. Pure."""

import time
from typing import Any

from a2a_gateway.agents.llm.providers.stream_events import AnswerDamaged

type Json = dict[str, Any]


def repair_text(value: Json, name: str, default: str | None) -> None:
    """Make a field a string: a number becomes its digits, any other value becomes the default."""
    held = value.get(name)
    if not isinstance(held, str):
        value[name] = str(held) if isinstance(held, int | float) else default


def seconds(value: object) -> int:
    """Return a time as whole seconds; the present time if the value is not a time."""
    try:
        return int(float(value)) if isinstance(value, int | float | str) else int(time.time())
    except (ValueError, OverflowError):
        return int(time.time())


def drop_nulls(value: Json) -> None:
    """Remove the fields that are null."""
    for name in [name for name, held in value.items() if held is None]:
        del value[name]


def dict_in(value: Json, name: str) -> Json | None:
    """Return the object in a field, or None if it is missing or null; raises `AnswerDamaged` for any other value."""
    held = value.get(name)
    if held is not None and not isinstance(held, dict):
        raise AnswerDamaged(f"its {name} is not a JSON object")
    return held


def dicts(values: object) -> list[Json]:
    """Return the objects of a list, which may be missing or contain nulls; raises `AnswerDamaged` for anything else."""
    if values is None:
        return []
    if not isinstance(values, list) or not all(value is None or isinstance(value, dict) for value in values):
        raise AnswerDamaged("it has other values where JSON objects should be")
    return [value for value in values if value is not None]
