"""The form that a caller requests for the final answer: the instruction to the agent, and the check of its answer.

The execution of a run asks the agent once more if an answer does not fit. Schema and answer are untrusted; only the
`SchemaChecker` parses them.
"""

import json
import re
from typing import Final

from a2a_gateway.agents.schema_checker import SchemaChecker
from a2a_gateway.errors import AnswerInvalid
from a2a_gateway.runs.messages import AnswerFormat

_FENCE: Final = re.compile(r"\A```[\w-]*[ \t]*\n(.*?)\n?```\Z", re.DOTALL)


class AnswerForm:
    """One answer format; `user` is the user on whose account answers are checked."""

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
            AnswerInvalid: it does not have the form; the message contains the location.
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
