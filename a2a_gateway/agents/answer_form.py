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
    """The form of one run's answer.

    Args:
        user: whose share of the checker's workers a check uses.
    """

    def __init__(self, answer_format: AnswerFormat, checker: SchemaChecker, *, user: str) -> None:
        self._format = answer_format
        self._checker = checker
        self._user = user

    def instruction(self) -> str:
        """Return the instruction for the agent's system prompt."""
        if self._format.schema is None:
            return "Your final answer must be a single JSON object and nothing else: no prose, no code fence."
        return (
            f"Your final answer ({self._format.name}) must be JSON and nothing else: no prose, no code fence. "
            f"It must fit this JSON Schema:\n{json.dumps(self._format.schema)}"
        )

    async def check(self, answer: str) -> str:
        """Return the answer's JSON text, without a code fence around it.

        Raises:
            AnswerInvalid: it does not have the form; the message contains the location.
            RequestError: the schema is not valid, or takes too much work.
        """
        text = answer.strip()
        if fenced := _FENCE.match(text):
            text = fenced.group(1).strip()
        await self._checker.check_answer(self._format.schema, text, self._user)
        return text

    def correction(self, error: AnswerInvalid) -> str:
        """Return the request to the agent to correct an invalid answer."""
        return f"{error.message} Answer again. {self.instruction()}"
