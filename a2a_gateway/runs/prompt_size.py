"""How large a prompt is: its bytes, and the most tokens that they can be, without a tokenizer. Pure.

What an LLM and a plain endpoint are sent differs; `agents` and `peers` each measure their own.
"""

from dataclasses import dataclass
from typing import Final

_BYTES_PER_TOKEN: Final = 3
"""English and code have four or more, dense scripts about three: a prompt rarely has more tokens than its bytes by three."""
_TOKENS_PER_MESSAGE: Final = 8
_TOKENS_PER_IMAGE: Final = 2_000
_TOKENS_PER_CALL: Final = 100
"""For what is added to the messages: a note of the budget, the provider's own mark-up."""


@dataclass(frozen=True, slots=True)
class PromptSize:
    """The size of one prompt.

    Attributes:
        messages: their number, with that of the tools that are offered.
    """

    utf8_bytes: int = 0
    messages: int = 0
    images: int = 0

    def most_tokens(self) -> int:
        """Estimate the tokens, rather too many than too few."""
        around = self.messages * _TOKENS_PER_MESSAGE + self.images * _TOKENS_PER_IMAGE + _TOKENS_PER_CALL
        return -(-self.utf8_bytes // _BYTES_PER_TOKEN) + around


def count_utf8_bytes(text: str) -> int:
    """Return how long a text is in UTF-8; what cannot be encoded counts as if it could."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
