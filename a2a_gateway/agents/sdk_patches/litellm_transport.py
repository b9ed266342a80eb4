"""Prevent two things that LiteLLM does inside an attempt.

It sends a POST again when its connection breaks. The gateway would pay for the second request without booking it. It also applies
a slow regular expression for secrets to the text of each error, of any length, on the event loop, so that one provider could stop
every run. `tests/agents/sdk_patches/test_litellm_transport.py` fails if a version moves one of the two names.
"""

import re
import sys
from typing import Final, NoReturn

from a2a_gateway.agents.sdk_patches.patching import Patch

_MAX_REDACTED_CHARS: Final = 16_384
"""The part of an error's text that is searched. `refusals` has bounded the body of a response already."""


async def _raise_again(*_: object, **__: object) -> NoReturn:
    """Replace LiteLLM's second attempt, which it makes while it handles the error of the first: raise that error."""
    error = sys.exception()
    raise error if error is not None else RuntimeError("LiteLLM made a second attempt without the error of a first one.")


class _BoundedPattern:
    """LiteLLM's expression for secrets, which takes 3 µs per character, and which LiteLLM applies to each error six times."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern

    def sub(self, replacement: str, text: str) -> str:
        """Replace secrets in the beginning of a text, and drop the rest."""
        return self._pattern.sub(replacement, text[:_MAX_REDACTED_CHARS])


LLM_TRANSPORT: Final = (
    # each request is sent once
    Patch("litellm.llms.custom_httpx.http_handler:AsyncHTTPHandler", "single_connection_post_request", lambda _: _raise_again),
    # errors are redacted with a bound
    Patch("litellm.litellm_core_utils.secret_redaction", "_SECRET_RE", _BoundedPattern),
)
