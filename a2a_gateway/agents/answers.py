"""The form that a caller wants the final answer to have: how the agent is told, and whether the answer has it.

Above it stands the execution of a run, which asks the agent once more when an answer does not fit. Schema and answer are both
untrusted, and a small schema can ask for work without end, so a check is given up after a second. It is work nevertheless: make
and use a form in a thread.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from jsonschema import SchemaError, ValidationError
from jsonschema.exceptions import best_match
from jsonschema.protocols import Validator
from jsonschema.validators import extend, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from a2a_gateway.agents.expressions import ExpressionError, compile_expression
from a2a_gateway.agents.schema_keywords import find_keyword
from a2a_gateway.errors import AnswerInvalid, RequestError, UnsupportedError
from a2a_gateway.runs.messages import AnswerFormat

_FENCE: Final = re.compile(r"\A```[\w-]*[ \t]*\n(.*?)\n?```\Z", re.DOTALL)
_SCHEMA: Final = "response_format.json_schema.schema"
_ENOUGH_S: Final = 1.0

type _Check = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]
"""A keyword of JSON Schema: given validator, value of the keyword, instance and schema, yields what is wrong."""


class AnswerForm:
    """One answer format, ready to check answers.

    Raises:
        RequestError: its schema is none.
        UnsupportedError: its schema has a keyword that answers cannot be checked against.
    """

    def __init__(self, wanted: AnswerFormat) -> None:
        self._wanted = wanted
        schema = dict(wanted.schema or {})
        validator_class = validator_for(schema)
        try:
            validator_class.check_schema(schema)
        except SchemaError as error:
            raise RequestError(f"The schema is no JSON Schema: {error.message}", param=_SCHEMA) from None
        except RecursionError:
            raise RequestError("The schema is nested too deeply.", param=_SCHEMA) from None
        if find_keyword(schema, "patternProperties"):
            # `jsonschema` looks for these patterns in five places, each with an engine that nothing can stop.
            raise UnsupportedError("The schema uses patternProperties; name the properties, or allow any.", param=_SCHEMA)
        below = {name: value for name, value in schema.items() if name != "$schema"}
        if find_keyword(below, "$schema"):
            # There `jsonschema` goes on with that dialect's own validator, which looks at no time.
            raise UnsupportedError("The schema names a $schema within; name one at the top, or none.", param=_SCHEMA)
        self._until = 0.0
        # An empty registry: a `$ref` must not make the gateway fetch what a caller names.
        registry: Registry[Any] = Registry()
        self._validator: Validator = self._bounded(validator_class)(schema, registry=registry)

    def instruction(self) -> str:
        """Say to the agent, before it begins, what its final answer must be."""
        rule = "Your final answer must be a single JSON object and nothing else: no prose, no code fence."
        if self._wanted.schema is None:
            return rule
        return f"{_rule(self._wanted)} It must fit this JSON Schema:\n{json.dumps(self._wanted.schema)}"

    def check(self, answer: str) -> str:
        """Return the answer's JSON text, without a code fence around it.

        Raises:
            AnswerInvalid: it does not have the form; the message says where.
        """
        text = answer.strip()
        if fenced := _FENCE.match(text):
            text = fenced.group(1).strip()
        self._validate(_parse(text))
        return text

    def complaint(self, error: AnswerInvalid) -> str:
        """Ask the agent to answer again."""
        return f"{error.message} Answer again. {self.instruction()}"

    def _validate(self, value: Any) -> None:
        if self._wanted.kind == "json_object" and not isinstance(value, dict):
            raise AnswerInvalid("The answer is JSON, but not an object.")
        self._until = time.monotonic() + _ENOUGH_S
        try:
            problem = best_match(self._validator.iter_errors(value))
        except Unresolvable as error:
            raise RequestError(f"The schema refers to {error.ref!r}, which it does not contain.", param=_SCHEMA) from None
        except RecursionError:
            raise RequestError(
                "The schema refers to itself without end, or the answer is nested too deeply.", param=_SCHEMA
            ) from None
        except ArithmeticError:
            raise AnswerInvalid("The answer has a number that is too large to be checked.") from None
        except TimeoutError:
            raise UnsupportedError(
                f"To check an answer against the schema takes more than {_ENOUGH_S:g} s: simplify its patterns and references.",
                param=_SCHEMA,
            ) from None
        if problem is not None:
            raise AnswerInvalid(f"The answer does not fit the schema at {problem.json_path}: {_brief(problem)}.")

    def _bounded(self, validator_class: type[Validator]) -> type[Validator]:
        """Make the validator look at the time before each keyword, and match patterns with an engine that can be stopped."""
        keywords: dict[str, _Check] = {**validator_class.VALIDATORS, "pattern": self._pattern}
        bounded: Callable[..., type[Validator]] = extend  # it has no annotations
        return bounded(validator_class, {name: self._timed(check) for name, check in keywords.items()})

    def _timed(self, check: _Check) -> _Check:
        def timed(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
            self._left_s()
            yield from check(validator, wanted, instance, schema) or ()

        return timed

    def _pattern(self, _: Any, pattern: str, instance: Any, __: Any) -> Iterator[ValidationError]:
        if not isinstance(instance, str):
            return
        try:
            expression = compile_expression(pattern)
        except ExpressionError as error:
            raise RequestError(f"The schema's pattern {pattern[:60]!r} cannot be used: {error}.", param=_SCHEMA) from None
        if not expression.search(instance, timeout=self._left_s(), concurrent=True):
            yield ValidationError(f"{instance!r} does not match {pattern!r}")

    def _left_s(self) -> float:
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        return left_s


def _rule(wanted: AnswerFormat) -> str:
    return f"Your final answer ({wanted.name}) must be JSON and nothing else: no prose, no code fence."


def _parse(text: str) -> Any:
    def refuse(constant: str) -> object:
        raise ValueError(constant)

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise AnswerInvalid(f"The answer is not JSON: {str(error)[:200]}.") from None


def _brief(problem: ValidationError) -> str:
    return problem.message if len(problem.message) <= 300 else problem.message[:300] + " …"
