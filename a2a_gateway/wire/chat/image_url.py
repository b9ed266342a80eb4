"""Check the URLs of images: `http(s)://` ones of public hosts, and images embedded as base64. Fetches nothing.

An LLM's server, or LiteLLM in this process, may fetch an image from a network that the caller must not reach. Only the URL itself
is checked here; a name that resolves to a private address is refused where it is resolved.
"""

import binascii
import ipaddress
import re
import socket
from typing import Final
from urllib.parse import urlsplit

from a2a_gateway.errors import RequestError

_DATA_URL: Final = re.compile(r"data:image/[a-z0-9][a-z0-9.+-]{0,63}(?:;[a-z0-9-]+=[^;,]*)*;base64,", re.IGNORECASE)
_URL_CHARS: Final = 8192


def check_image_url(url: str, param: str) -> None:
    """Check the URL of an image.

    Raises:
        RequestError: it has another scheme or media type, no host or one that is not public, or data that is no base64.
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
    if not _is_public(host):
        return "must lead to a public host; send an image of a private one as data:image/…;base64,…"
    return None


def _is_public(host: str) -> bool:
    """Return whether a host may be public: no local name, and no address but a global one, in whatever way it is written."""
    name = host.rstrip(".").lower()
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        try:
            address = ipaddress.ip_address(socket.inet_aton(name))  # `127.1`, `0x7f000001`, `2130706433`
        except (OSError, UnicodeError):
            return name != "localhost" and not name.endswith((".localhost", ".local", ".internal"))
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    return address.is_global and not address.is_multicast


def _data_fault(url: str) -> str | None:
    head = _DATA_URL.match(url)
    if head is None:
        return "must have the form data:image/<type>;base64,<data>"
    try:
        data = binascii.a2b_base64(url[head.end() :], strict_mode=True)
    except ValueError:
        return "has data that is not valid base64"
    return None if data else "has no data"
