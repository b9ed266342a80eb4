"""The faults of definitions, and their lines in the files.

Parsers locate a fault by keys and indexes in the document (`at`). Only this module computes lines, also in JSON documents,
because JSON is a subset of YAML. A fault quotes no value, because it might be a secret.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import yaml
from pydantic import ValidationError

from a2a_gateway.runs.model import ProblemTopic, ProfileProblem
from a2a_gateway.settings_errors import reason_of

type KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `at` is its location in the document; `line` (1-based, of the file) has precedence if it is known.

    `topic` is that of `ProfileProblem`.
    """

    message: str
    at: KeyPath = ()
    line: int | None = None
    topic: ProblemTopic = "profile"


_IN_QUOTES: Final = "put the text into quotation marks"
_HINTS: Final[Mapping[str, str]] = {
    "mapping values are not allowed": f"a colon begins a value; {_IN_QUOTES}, or indent the line as those around it",
    "that cannot start any token": f"this character has a meaning in YAML; {_IN_QUOTES}",
    "undefined alias": f"* has a meaning in YAML; {_IN_QUOTES}",
    "could not find expected ':'": "a name of a field is followed by a colon, a space and its value",
    "expected <block end>": "fields of one level begin in the same column, and text after a quotation mark is not allowed",
    "end of stream": "a bracket or a quotation mark is not closed",
    "expected ',' or": "a bracket or a quotation mark is not closed",
}
"""What an author probably did, for texts of PyYAML's errors."""
UNEXPECTED: Final = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError, yaml.YAMLError)
"""The exceptions that the SDK's validators raise for unexpected data, in addition to their own errors."""


class DefinitionError(Exception):
    """A definition that cannot be used."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(fault.message for fault in faults))
        self.faults = faults


class UndecryptableError(DefinitionError):
    """A saved secret cannot be decrypted with any of the known cipher keys."""


def read_text(path: Path) -> str:
    """Read a definition's file, without a byte order mark.

    Raises:
        DefinitionError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise definition_error(f"cannot be read: {type(error).__name__}") from None


def definition_error(message: str, *at: str | int) -> DefinitionError:
    """Return the error for one fault."""
    return DefinitionError(Fault(message, at))


def move_faults(error: DefinitionError, *at: str | int) -> DefinitionError:
    """Return an error with the same faults at another location, such as the field that refers to another file."""
    return DefinitionError(*(Fault(fault.message, at) for fault in error.faults))


def from_validation_error(
    error: ValidationError, prefix: KeyPath = (), *, tagged: bool = False, known: Collection[str] = ()
) -> DefinitionError:
    """Convert pydantic's error, without the values that it quotes.

    Args:
        tagged: whether every location begins with a union's tag.
        known: names of settings, of which the error of an unknown one suggests the nearest.
    """
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    locations = [(*prefix, *item["loc"][1 if tagged else 0 :]) for item in errors]
    return DefinitionError(
        *(
            Fault(f"{'.'.join(map(str, at)) or 'the definition'}: {reason_of(item, known)}", at)
            for at, item in zip(locations, errors, strict=True)
        )
    )


def from_syntax_error(error: yaml.YAMLError | json.JSONDecodeError, first_line: int = 1) -> DefinitionError:
    """Convert a syntax error; `first_line` is the line of the file in which the parsed text began."""
    if isinstance(error, json.JSONDecodeError):
        return DefinitionError(Fault(f"is not JSON: {error.msg}", line=first_line + error.lineno - 1))
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    reason = getattr(error, "problem", None) or "it cannot be parsed"
    hint = next((f": {hint}" for text, hint in _HINTS.items() if text in reason), "")
    return DefinitionError(Fault(f"is not YAML: {reason}{hint}", line=first_line + mark.line if mark else first_line))


@dataclass(frozen=True, slots=True)
class Document:
    """A file, or the part of it from `first_line` on, in which faults can be located by line."""

    path: Path
    text: str = field(repr=False)
    first_line: int = 1

    def problems(self, error: DefinitionError) -> tuple[ProfileProblem, ...]:
        """Return the faults as problems of this file."""
        return tuple(self._problem(fault) for fault in error.faults)

    def warnings(self, faults: Iterable[Fault]) -> tuple[ProfileProblem, ...]:
        """Return faults that do not make the definition unusable, as warnings about this file."""
        return tuple(replace(self._problem(fault), is_warning=True) for fault in faults)

    def _problem(self, fault: Fault) -> ProfileProblem:
        return ProfileProblem(str(self.path), fault.message, fault.line or self._line_of(fault.at), topic=fault.topic)

    def _line_of(self, at: KeyPath) -> int | None:
        line = line_of(self.text, at)
        return None if line is None else self.first_line + line - 1


def from_unexpected_error(error: Exception) -> DefinitionError:
    """Convert an unexpected exception of a parser. Only the text of a `ValueError` is fit for people."""
    return definition_error(str(error) if isinstance(error, ValueError) else f"cannot be parsed: {type(error).__name__}")


def line_of(text: str, at: KeyPath) -> int | None:
    """Return the 1-based line of a location in a YAML or JSON text, or of its nearest parent; None if there is no parent."""
    if not at:
        return None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except UNEXPECTED:
        return None
    line = None
    for key in at:
        found = _step(node, key)
        if found is None:
            break
        line, node = found
    return line


def _step(node: yaml.Node | None, key: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        pairs: Sequence[tuple[yaml.Node, yaml.Node]] = node.value
        return next(((name.start_mark.line + 1, value) for name, value in pairs if name.value == str(key)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key].start_mark.line + 1, node.value[key]
    return None
