"""Keep LiteLLM from two things that it does below the attempts that are counted and booked here.

It sends a POST again when its connection breaks, which would be paid for and not booked. And it applies a slow pattern for
secrets to the text of each error, however long, on the event loop, so that one provider could stop every run.
`tests/agents/sdk_patches/test_litellm_transport.py` fails when a new version moves one of the two names.
"""

import re
import sys
from typing import Final, NoReturn

from a2a_gateway.agents.sdk_patches.patching import Patch

_MAX_REDACTED_CHARS: Final = 16_384
"""Of an error's text; where the error is a response, `refusals` has bounded it before."""


async def _raise_again(*_: object, **__: object) -> NoReturn:
    """Stand in for LiteLLM's second attempt, which it makes while it handles the error of the first."""
    error = sys.exception()
    raise error if error is not None else RuntimeError("a second attempt without a first")


class _BoundedPattern:
    """LiteLLM's pattern for secrets, which takes 3 µs a character and is applied to each error six times."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern

    def sub(self, replacement: str, text: str) -> str:
        """Replace secrets in the beginning of a text, and leave out the rest."""
        return self._pattern.sub(replacement, text[:_MAX_REDACTED_CHARS])


LLM_TRANSPORT: Final = (
    # each request is sent once
    Patch("litellm.llms.custom_httpx.http_handler:AsyncHTTPHandler", "single_connection_post_request", lambda _: _raise_again),
    # errors are redacted with a bound
    Patch("litellm.litellm_core_utils.secret_redaction", "_SECRET_RE", _BoundedPattern),
)
