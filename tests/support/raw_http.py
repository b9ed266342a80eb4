"""Read HTTP requests from a bare socket, for servers whose answers are exact bytes."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RawRequest:
    """One request; the names of its headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    content: bytes

    @property
    def body(self) -> dict[str, Any]:
        """The content as JSON; empty if there is none."""
        body: dict[str, Any] = json.loads(self.content or b"{}")
        return body


async def read_request(reader: asyncio.StreamReader) -> RawRequest:
    """Read one request whose body has a length."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines if line)}
    content = await reader.readexactly(int(headers.get("content-length", 0)))
    method, path, _ = first.split(" ", 2)
    return RawRequest(method, path, headers, content)
