"""How large the prompt is that a plain endpoint is sent: its bytes, and the most tokens that they can be, without a tokenizer."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

from a2a_gateway.runs.messages import AssistantMessage, ImagePart, Message
from a2a_gateway.runs.model import AdmittedRun

_BYTES_PER_TOKEN: Final = 3
"""English and code have four or more, dense scripts about three: a prompt rarely has more tokens than its bytes by three."""
_TOKENS_PER_MESSAGE: Final = 8
_TOKENS_PER_IMAGE: Final = 2_000
_TOKENS_PER_CALL: Final = 100
"""For the provider's own mark-up."""


@dataclass(frozen=True, slots=True)
class PromptSize:
    """A prompt, measured."""

    utf8_bytes: int = 0
    messages: int = 0
    images: int = 0

    @classmethod
    def of(cls, run: AdmittedRun) -> Self:
        """Measure what a run sends."""
        schema = json.dumps(run.answer_format.schema) if run.answer_format is not None else ""
        texts = (text for message in run.messages for text in _texts(message))
        images = sum(isinstance(part, ImagePart) for message in run.messages for part in message.parts)
        return cls(len(schema) + sum(len(text.encode("utf-8", "surrogatepass")) for text in texts), len(run.messages), images)

    def most_tokens(self) -> int:
        """Estimate the tokens, rather too many than too few."""
        around = self.messages * _TOKENS_PER_MESSAGE + self.images * _TOKENS_PER_IMAGE + _TOKENS_PER_CALL
        return -(-self.utf8_bytes // _BYTES_PER_TOKEN) + around


def _texts(message: Message) -> Iterator[str]:
    for part in message.parts:
        if not isinstance(part, ImagePart):
            yield part.text
    if isinstance(message, AssistantMessage):
        for call in message.tool_calls:
            yield call.name
            yield call.arguments
