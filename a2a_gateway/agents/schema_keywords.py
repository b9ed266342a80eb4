"""Where a JSON Schema uses a keyword, as told from a property of the same name. Pure."""

from collections.abc import Mapping
from typing import Final

_MAPS: Final = frozenset({"properties", "$defs", "definitions", "dependentSchemas", "dependencies", "patternProperties"})
"""Keywords whose value names schemas: its keys are no keywords."""


def find_keyword(schema: object, keyword: str) -> bool:
    """Say whether a schema, or one anywhere in it, uses a keyword.

    Whatever a reference could make a schema counts as one, so a value (`default`, say) with a key of that name does, too.
    """
    match schema:
        case Mapping():
            return keyword in schema or any(_find_below(name, value, keyword) for name, value in schema.items())
        case list() | tuple():
            return any(find_keyword(item, keyword) for item in schema)
        case _:
            return False


def _find_below(name: str, value: object, keyword: str) -> bool:
    if name in _MAPS and isinstance(value, Mapping):
        return any(find_keyword(item, keyword) for item in value.values())
    return find_keyword(value, keyword)
