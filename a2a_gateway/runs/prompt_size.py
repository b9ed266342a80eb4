"""The size of a prompt: its bytes, and an upper estimate of its tokens, without a tokenizer. Pure.

`agents` and `peers` each measure what they send, because an LLM and a plain endpoint are sent different bodies.
"""

from dataclasses import dataclass
from typing import Final

_BYTES_PER_TOKEN: Final = 3
"""English and code have four or more, dense scripts about three, so this rarely yields too few tokens."""
_TOKENS_PER_MESSAGE: Final = 8
_TOKENS_PER_IMAGE: Final = 2_000
_TOKENS_PER_CALL: Final = 100
"""For what is added to the messages, such as a note on the budget and the provider's own mark-up."""


@dataclass(frozen=True, slots=True)
class PromptSize:
    """The size of one prompt.

    Attributes:
        messages: number of messages and of offered tools.
    """

    utf8_bytes: int = 0
    messages: int = 0
    images: int = 0

    def most_tokens(self) -> int:
        """Return an upper estimate of the tokens."""
        around = self.messages * _TOKENS_PER_MESSAGE + self.images * _TOKENS_PER_IMAGE + _TOKENS_PER_CALL
        return -(-self.utf8_bytes // _BYTES_PER_TOKEN) + around


def count_utf8_bytes(text: str) -> int:
    """Return the length of a text in UTF-8; a lone surrogate counts as three bytes."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
