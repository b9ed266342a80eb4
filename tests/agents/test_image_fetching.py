"""Images that a caller names by URL, where LiteLLM downloads them itself: never from inside this machine's network."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from openai import OpenAIError
from openhands.sdk import ImageContent, Message, TextContent
from openhands.sdk.llm.exceptions import LLMError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from a2a_gateway.agents.llm.metered_llm import build_metered_llm
from a2a_gateway.agents.llm.pricing import Prices
from a2a_gateway.agents.llm.run_account import RunAccount
from a2a_gateway.testing.serving import serve_app
from tests.agents.driver import RecordingMeter, an_llm

pytestmark = pytest.mark.anyio


class Inside:
    """A server inside the gateway's network; it notes who came."""

    def __init__(self) -> None:
        self.visits: list[str] = []

    async def answer(self, request: Request) -> Response:
        self.visits.append(request.url.path)
        return Response(b"\x89PNG\r\n\x1a\n", media_type="image/png")

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        async with serve_app(Starlette(routes=[Route("/{path:path}", self.answer, methods=["GET", "POST"])])) as url:
            yield url


# Models whose servers do not fetch images, so that LiteLLM, or the SDK, does.
@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("anthropic/claude-haiku-4-5-20251001", {}),
        ("gemini/gemini-2.5-flash", {}),
        ("openai/gpt-4o", {"inline_image_urls": True}),
    ],
)
async def test_an_image_inside_the_network_is_not_fetched(model: str, changes: dict[str, bool]) -> None:
    inside = Inside()
    async with inside.serving() as url:
        account = RunAccount(RecordingMeter(), max_turns=1, emit=lambda _: None)
        template = an_llm(url, model=model, **changes)
        llm = build_metered_llm(template, account, Prices(model, 1e-6, 1e-6))
        named = url.replace("127.0.0.1", "localhost")
        look, image = TextContent(text="look"), ImageContent(image_urls=[f"{named}/secret.png"])
        with pytest.raises((LLMError, OpenAIError)):
            await llm.acompletion([Message(role="user", content=[look, image])])
    assert "/secret.png" not in inside.visits
