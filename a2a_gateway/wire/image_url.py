"""Which image URLs a message may hold: `http(s)://` ones, and images embedded as base64. Fetches nothing."""

import binascii
import re
from typing import Final
from urllib.parse import urlsplit

from a2a_gateway.errors import RequestError

_DATA_URL: Final = re.compile(r"data:image/[a-z0-9][a-z0-9.+-]{0,63}(?:;[a-z0-9-]+=[^;,]*)*;base64,", re.IGNORECASE)
_URL_CHARS: Final = 8192


def check_image_url(url: str, param: str) -> None:
    """Check the URL of an image.

    Raises:
        RequestError: it has another scheme or media type, no host, or data that is no base64.
    """
    if fault := _data_fault(url) if url[:5].lower() == "data:" else _link_fault(url):
        raise RequestError(f"{param}: {fault}.", param=param)


def _link_fault(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return "is not a URL"
    if parts.scheme not in ("http", "https"):
        return "must begin with http://, https:// or data:image/"
    if not host or len(url) > _URL_CHARS or re.search(r"[\x00-\x20\x7f]", url):
        return f"must be a URL with a host, without blanks, of at most {_URL_CHARS} characters"
    return None


def _data_fault(url: str) -> str | None:
    head = _DATA_URL.match(url)
    if head is None:
        return "must have the form data:image/<type>;base64,<data>"
    try:
        data = binascii.a2b_base64(url[head.end() :], strict_mode=True)
    except ValueError:
        return "has data that is not valid base64"
    return None if data else "has no data"
