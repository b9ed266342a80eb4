"""Check JSON Schemas and answers, as a separate program, because untrusted schemas can need any amount of work.

Usage: `python -I -S schema_worker.py SITE_PACKAGES MEMORY_BYTES LIFE_S`. It writes one line of output for each line of input, and
ends when its input ends. Both are JSON:

| job | meaning |
|---|---|
| `{"schema": …}` | check a schema |
| `{"schema": …, "answer": "…"}` | check an answer against a schema; a null schema allows any object |

| reply | meaning |
|---|---|
| `{}` | valid |
| `{"schema": "…"}`, `{"answer": "…"}` | the schema, or the answer, has this fault |
| `{"work": "…"}` | this took too much work |

It limits its own memory and the seconds of one job, so it ends even if the gateway was killed and cannot end it. It imports
nothing of the gateway, and as little as possible, because its start delays a run.
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from graphlib import CycleError, TopologicalSorter
from typing import Any

sys.path.append(sys.argv[1])  # instead of `site`, which takes longer than all the rest
import jsonschema_rs
from jsonschema_rs import ValidationError, ValidationErrorKind

_SAME_PART = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "then", "else"})
"""Keywords that contain one or more schemas for the same part of an answer."""
_SAME_PART_BY_NAME = frozenset({"dependentSchemas", "dependencies"})
_UNKNOWN_DIALECT = "Unknown meta-schema"
_MAX_MESSAGE_CHARS = 300
_NICENESS = 10
_ENDLESS = "is nested too deeply, or refers to itself without end"


def main(memory_bytes: int, life_s: float) -> None:
    """Execute jobs until the input ends."""
    os.nice(_NICENESS)
    for limit, most in ((resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_CORE, 0)):
        with suppress(OSError, ValueError):  # some systems do not bound an address space
            resource.setrlimit(limit, (most, most))
    _send({})
    for line in sys.stdin.buffer:
        # The signal's default action ends the process, whatever native code it is in.
        signal.setitimer(signal.ITIMER_REAL, life_s)
        _send(_reply(json.loads(line)))
        signal.setitimer(signal.ITIMER_REAL, 0)


def _send(reply: dict[str, str]) -> None:
    sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n")
    sys.stdout.buffer.flush()


def _reply(job: dict[str, Any]) -> dict[str, str]:
    schema, answer = job["schema"], job.get("answer")
    try:
        validator = None if schema is None else _compile(schema)
    except ValidationError as error:
        return {"schema": f"is not a valid JSON Schema: at {_path(error)}, {_brief(error.message)}"}
    except (CycleError, RecursionError, ValueError):  # the last is how the library reports deep nesting
        return {"schema": _ENDLESS}
    return {} if answer is None else _check(validator, answer)


# ---------------------------------------------------------------------- schemas


def _compile(schema: dict[str, Any]) -> jsonschema_rs.Validator:
    _refuse_circles(schema)
    # Offline: a reference must not make the gateway fetch a caller's URL.
    try:
        return jsonschema_rs.validator_for(schema, offline=True, validate_formats=False)
    except ValidationError as error:
        if not error.message.startswith(_UNKNOWN_DIALECT):
            raise
    newest = {name: value for name, value in schema.items() if name != "$schema"}
    return jsonschema_rs.validator_for(newest, offline=True, validate_formats=False)


def _refuse_circles(schema: dict[str, Any]) -> None:
    """Check that no schema applies itself, through others, to the same part of an answer: such a cycle accepts any answer.

    Raises:
        CycleError: there is a cycle.
    """
    graph = {id(node): {id(follows) for follows in _follow(node, schema)} for node in _walk(schema) if isinstance(node, dict)}
    TopologicalSorter(graph).prepare()


def _follow(node: dict[str, Any], root: dict[str, Any]) -> Iterator[object]:
    """Yield the schemas that a schema applies to the same part of an answer."""
    if isinstance(reference := node.get("$ref"), str):
        yield _target(reference, root)
    for keyword in _SAME_PART & node.keys():
        value = node[keyword]
        yield from value if isinstance(value, list) else (value,)
    for keyword in _SAME_PART_BY_NAME & node.keys():
        if isinstance(by_name := node[keyword], dict):
            yield from by_name.values()


def _target(reference: str, root: dict[str, Any]) -> object:
    """Return the target of a JSON pointer; None for other references and for a missing target, which compiling refuses."""
    if reference not in ("", "#") and not reference.startswith("#/"):
        return None
    node: object = root
    for part in reference.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        match node:
            case dict():
                node = node.get(name)
            case list() if name.isdecimal() and int(name) < len(node):
                node = node[int(name)]
            case _:
                return None
    return node


def _walk(value: object) -> Iterator[object]:
    """Yield every value of a JSON document, itself included."""
    waiting = [value]
    while waiting:
        yield (node := waiting.pop())
        match node:
            case dict():
                waiting.extend(node.values())
            case list():
                waiting.extend(node)
            case _:
                pass


# ---------------------------------------------------------------------- answers


def _check(validator: jsonschema_rs.Validator | None, answer: str) -> dict[str, str]:
    try:
        value = _parse(answer)
    except (ValueError, RecursionError) as error:
        return {"answer": f"is not JSON: {_brief(str(error))}"}
    if validator is None:
        return {} if isinstance(value, dict) else {"answer": "is JSON, but not an object"}
    try:
        validator.validate(value)
    except ValidationError as error:
        return _fault(_nearest(error))
    except (RecursionError, ValueError):
        return {"answer": "is nested too deeply"}
    return {}


def _parse(answer: str) -> object:
    value = json.loads(answer.encode("utf-8", "replace"), parse_constant=_refuse_constant)
    if "\\u" not in answer:
        return value
    # An escape may encode a lone surrogate, which the library does not accept.
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def _refuse_constant(constant: str) -> object:
    raise ValueError(constant)


def _nearest(error: ValidationError) -> ValidationError:
    """Return the error of the alternative that fails deepest in the answer, if all fail: it helps the LLM most."""
    while isinstance(error.kind, ValidationErrorKind.AnyOf | ValidationErrorKind.OneOfNotValid):
        firsts = [errors[0] for errors in error.kind.context if errors]
        if not firsts:
            break
        error = max(firsts, key=lambda first: len(first.instance_path))
    return error


def _fault(error: ValidationError) -> dict[str, str]:
    if isinstance(error.kind, ValidationErrorKind.BacktrackLimitExceeded | ValidationErrorKind.RegexEngineFailure):
        return {"work": f"a pattern at {_path(error)}"}
    return {"answer": f"does not fit the schema at {_path(error)}: {_brief(error.message)}"}


def _path(error: ValidationError) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path)
    return _brief(f"${''.join(steps)}")


def _brief(text: str) -> str:
    return text if len(text) <= _MAX_MESSAGE_CHARS else f"{text[:_MAX_MESSAGE_CHARS]} …"


if __name__ == "__main__":
    main(int(sys.argv[2]), float(sys.argv[3]))
