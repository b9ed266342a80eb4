"""What is wrong with a definition, and in which line.

Loaders state a fault by where it stands in the document (`at`: keys and indexes), so that only this module knows about lines.
JSON documents are located as YAML, of which JSON is a subset. Nothing here quotes a value: it might be a secret.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import yaml
from pydantic import ValidationError

from a2a_gateway.runs.model import ProfileProblem

type KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong. `at` is where in the document; `line` (1-based, of the file) counts instead where it is known."""

    message: str
    at: KeyPath = ()
    line: int | None = None


UNEXPECTED: Final = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError, yaml.YAMLError)
"""What the SDK's validators raise, beside their own errors, on data that their authors did not think of."""


class DefinitionError(Exception):
    """A definition that cannot be used."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(fault.message for fault in faults))
        self.faults = faults


class UndecryptableError(DefinitionError):
    """A saved secret that none of the known cipher keys opens."""


def read_text(path: Path) -> str:
    """Read a definition's file, without the byte order mark that some editors put first.

    Raises:
        DefinitionError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise refusal(f"cannot be read: {type(error).__name__}") from None


def refusal(message: str, *at: str | int) -> DefinitionError:
    """Make the error for one fault."""
    return DefinitionError(Fault(message, at))


def placed(error: DefinitionError, *at: str | int) -> DefinitionError:
    """Say where in the document faults stand that came from elsewhere, such as from the LLM profile that it names."""
    return DefinitionError(*(Fault(fault.message, at) for fault in error.faults))


def invalid(error: ValidationError, prefix: KeyPath = (), *, tagged: bool = False) -> DefinitionError:
    """Turn pydantic's error into ours, without the values that it would quote; `tagged` where a union's tag leads every place."""
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    places = [(*prefix, *item["loc"][1 if tagged else 0 :]) for item in errors]
    return DefinitionError(*(Fault(_worded(at, item["type"], item["msg"]), at) for at, item in zip(places, errors, strict=True)))


def malformed(error: yaml.YAMLError | json.JSONDecodeError, first_line: int = 1) -> DefinitionError:
    """Turn a syntax error into ours; `first_line` is the line of the file in which the parsed text began."""
    if isinstance(error, json.JSONDecodeError):
        return DefinitionError(Fault(f"is not JSON: {error.msg}", line=first_line + error.lineno - 1))
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    reason = getattr(error, "problem", None) or "it cannot be parsed"
    return DefinitionError(Fault(f"is not YAML: {reason}", line=first_line + mark.line if mark else first_line))


@dataclass(frozen=True, slots=True)
class Document:
    """A file, or the part of it from `first_line` on, whose faults can be told by line."""

    path: Path
    text: str
    first_line: int = 1

    def problems(self, error: DefinitionError) -> tuple[ProfileProblem, ...]:
        """Return the faults as problems of this file."""
        return tuple(self._problem(fault) for fault in error.faults)

    def warnings(self, faults: Iterable[Fault]) -> tuple[ProfileProblem, ...]:
        """Return faults that do not keep the definition from being used as problems of this file."""
        return tuple(replace(self._problem(fault), is_warning=True) for fault in faults)

    def _problem(self, fault: Fault) -> ProfileProblem:
        return ProfileProblem(str(self.path), fault.message, fault.line or self._line_of(fault.at))

    def _line_of(self, at: KeyPath) -> int | None:
        line = line_of(self.text, at)
        return None if line is None else self.first_line + line - 1


def misunderstood(error: Exception) -> DefinitionError:
    """Turn what a parser raised into ours; only a `ValueError` is worded for people."""
    return refusal(str(error) if isinstance(error, ValueError) else f"cannot be understood: {type(error).__name__}")


def line_of(text: str, at: KeyPath) -> int | None:
    """Find the 1-based line of a YAML or JSON text where `at` stands, or as much of it as there is; None if there is none."""
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


def _worded(at: KeyPath, kind: str, message: str) -> str:
    where = ".".join(map(str, at)) or "the definition"
    if kind == "extra_forbidden":
        return f"{where} is not a known setting"
    return f"{where}: {message.removeprefix('Value error, ')}"
