"""The form that a caller wants the final answer to have: how the agent is told, and whether the answer has it.

Pure. Above it stands the execution of a run, which asks the agent once more when an answer does not fit.
"""

import json
import re
from typing import Any, Final

from jsonschema import SchemaError, ValidationError
from jsonschema.exceptions import best_match
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from a2a_gateway.errors import AnswerInvalid, RequestError
from a2a_gateway.runs.messages import AnswerFormat

_FENCE: Final = re.compile(r"\A```[\w-]*[ \t]*\n(.*?)\n?```\Z", re.DOTALL)


class AnswerForm:
    """One answer format, ready to check answers.

    Raises:
        RequestError: its schema is none.
    """

    def __init__(self, wanted: AnswerFormat) -> None:
        self._wanted = wanted
        # An empty registry: a `$ref` must not make the gateway fetch what a caller names.
        validator_class = validator_for(dict(wanted.schema or {}))
        try:
            validator_class.check_schema(dict(wanted.schema or {}))
        except SchemaError as error:
            raise RequestError(
                f"The schema is no JSON Schema: {error.message}", param="response_format.json_schema.schema"
            ) from None
        registry: Registry[Any] = Registry()
        self._validator = validator_class(dict(wanted.schema or {}), registry=registry)

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
        try:
            problem = best_match(self._validator.iter_errors(value))
        except Unresolvable as error:
            message = f"The schema refers to {error.ref!r}, which it does not contain."
            raise RequestError(message, param="response_format.json_schema.schema") from None
        if problem is not None:
            raise AnswerInvalid(f"The answer does not fit the schema at {problem.json_path}: {_brief(problem)}.")


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
