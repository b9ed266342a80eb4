"""JSON Schemas that ask for more work than anything could do."""

from typing import Any


def doubling(levels: int = 60) -> dict[str, Any]:
    """A schema that is quickly read and refers twice to the next of its levels: checking an answer takes 2 ** levels steps."""
    below = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(levels)}
    return {"$defs": {**below, f"d{levels}": {"type": "object"}}, "$ref": "#/$defs/d0"}


def unevaluated(levels: int = 30) -> dict[str, Any]:
    """A schema of about 2 kB that takes 2 ** levels steps and as much memory to be read."""
    below = {f"d{n}": {"dependentSchemas": {name: {"$ref": f"#/$defs/d{n + 1}"} for name in ("a", "b")}} for n in range(levels)}
    return {"$defs": {**below, f"d{levels}": {}}, "$ref": "#/$defs/d0", "unevaluatedProperties": False}
