"""The form that a caller wants the final answer to have: the instruction to the agent, and the check of its answer.

Above it stands the execution of a run, which asks the agent once more when an answer does not fit; below it the `SchemaChecker`,
which looks into schema and answer, because both are untrusted.
"""

import json
import re
from typing import Final

from a2a_gateway.agents.schema_checker import SchemaChecker
from a2a_gateway.errors import AnswerInvalid
from a2a_gateway.runs.messages import AnswerFormat

_FENCE: Final = re.compile(r"\A```[\w-]*[ \t]*\n(.*?)\n?```\Z", re.DOTALL)


class AnswerForm:
    """One answer format; `user` is whose answers it checks."""

    def __init__(self, wanted: AnswerFormat, checker: SchemaChecker, *, user: str) -> None:
        self._wanted = wanted
        self._checker = checker
        self._user = user

    def instruction(self) -> str:
        """Return the instruction that the agent gets before it begins."""
        rule = "Your final answer must be a single JSON object and nothing else: no prose, no code fence."
        if self._wanted.schema is None:
            return rule
        return f"{_rule(self._wanted)} It must fit this JSON Schema:\n{json.dumps(self._wanted.schema)}"

    async def check(self, answer: str) -> str:
        """Return the answer's JSON text, without a code fence around it.

        Raises:
            AnswerInvalid: it does not have the form; the message says where.
            RequestError: the schema is not valid, or takes too much work.
        """
        text = answer.strip()
        if fenced := _FENCE.match(text):
            text = fenced.group(1).strip()
        await self._checker.check_answer(self._wanted.schema, text, self._user)
        return text

    def complaint(self, error: AnswerInvalid) -> str:
        """Ask the agent to answer again."""
        return f"{error.message} Answer again. {self.instruction()}"


def _rule(wanted: AnswerFormat) -> str:
    return f"Your final answer ({wanted.name}) must be JSON and nothing else: no prose, no code fence."
