"""Text that is kept or passed on up to a bound, with a mark if it was cut."""

from dataclasses import dataclass
from typing import Final

from delegate_tool.protocol.text import well_formed


@dataclass(frozen=True, slots=True)
class KeptText:
    """A text, or its beginning."""

    text: str
    is_truncated: bool = False


EMPTY: Final = KeptText("")


def keep_text(text: str, max_bytes: int) -> KeptText:
    """Cut a text to a number of bytes of UTF-8, between two characters."""
    encoded = well_formed(text[:max_bytes]).encode()
    is_truncated = max(len(text), len(encoded)) > max_bytes
    return KeptText(encoded[:max_bytes].decode(errors="ignore"), is_truncated=is_truncated)
