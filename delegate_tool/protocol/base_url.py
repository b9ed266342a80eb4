"""Parse the base URL of an endpoint, and name what is wrong with it. Pure."""

from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

EXAMPLE: Final = "http://127.0.0.1:8420/v1"
_SHOWN_CHARS: Final = 100


def parse_base_url(text: str) -> str:
    """Return a base URL without surrounding spaces and closing slashes.

    Raises:
        ValueError: it is not the URL of an HTTP endpoint. The message is the end of a sentence, and quotes no password.
    """
    text = text.strip()
    if any(char.isspace() or not char.isprintable() for char in text):
        raise ValueError(f"it has a space or a control character in it; it must look like {EXAMPLE}")
    if text and not any(mark in text for mark in ("://", "@", "http:", "https:")) and not text.startswith(("/", ":")):
        start = text[:_SHOWN_CHARS]
        raise ValueError(f"{start} has no scheme; write {_guess_scheme(text)}://{start}")
    try:
        url = urlsplit(text)
        _check(url)
    except ValueError as error:  # also of `urlsplit` and of the port
        why = str(error) if isinstance(error, _Malformed) else f"it is not a URL such as {EXAMPLE}"
        raise ValueError(why) from None
    return text.rstrip("/")


class _Malformed(ValueError):
    """What is wrong, in words that may be shown."""


def _check(url: SplitResult) -> None:
    if "@" in url.netloc:
        raise _Malformed("it contains a user or a password, which would be sent in place of the API key; leave them out")
    if url.scheme not in ("http", "https"):
        raise _Malformed(f"it must begin with http:// or https://, as {EXAMPLE} does")
    if url.query or url.fragment:
        raise _Malformed("it must end with its path, without ? or #")
    if url.netloc.count(":") > 1 and not url.netloc.startswith("["):
        raise _Malformed("an IPv6 address needs brackets, as in http://[::1]:8420/v1")
    if not url.hostname or url.port == 0:
        raise _Malformed(f"it names no host and port, as {EXAMPLE} does")


def _guess_scheme(text: str) -> str:
    """Return the scheme that was probably meant: `https` on the internet, `http` on this machine and in private networks."""
    host = text.partition("/")[0].rpartition(":")[0] or text.partition("/")[0]
    try:
        return "http" if not ip_address(host.strip("[]")).is_global else "https"
    except ValueError:
        return "https" if "." in host and not host.endswith((".local", ".internal", ".localhost")) else "http"
