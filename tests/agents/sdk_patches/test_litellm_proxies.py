"""The proxies of an agent's LLM calls: with each transport that LiteLLM may use, and in clients that httpx sets up by itself."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from openai import OpenAIError
from openhands.sdk import Message, TextContent
from openhands.sdk.llm.exceptions import LLMError

from a2a_gateway.agents.llm.metered_llm import build_metered_llm
from a2a_gateway.agents.llm.pricing import Prices
from a2a_gateway.agents.llm.run_account import RunAccount
from a2a_gateway.agents.sdk_patches.litellm_clients import close_llm_clients
from a2a_gateway.agents.sdk_patches.litellm_proxies import PROXIES
from a2a_gateway.agents.sdk_patches.patching import require
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.agents.driver import INPUT_USD, OUTPUT_USD, RecordingMeter, an_llm
from tests.support.proxy import PROXY_VARIABLES, RecordingProxy

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def rules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start from an environment that names no proxy, with clients that follow the rules, and restore it for other tests."""
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with require(PROXIES):
        yield


async def ask(base_url: str, model: str) -> str:
    # In a thread, because the SDK asks a LiteLLM proxy about its models, and waits.
    template = await asyncio.to_thread(an_llm, base_url, model=model, num_retries=0)
    account = RunAccount(RecordingMeter(), max_turns=9, emit=lambda _: None)
    llm = build_metered_llm(template, account, Prices(model, INPUT_USD, OUTPUT_USD))
    try:
        response = await llm.acompletion([Message(role="user", content=[TextContent(text="Hi")])], on_token=lambda _: None)
    finally:
        await close_llm_clients()
    return "".join(part.text for part in response.message.content if isinstance(part, TextContent))


@pytest.mark.parametrize("transport", ["aiohttp", "httpx"])
@pytest.mark.parametrize("model", ["openai/scripted", "litellm_proxy/scripted"])
@pytest.mark.parametrize("no_proxy", ["", "[::1],fe80::/10,fd07::/64,127.0.0.0/8"])
async def test_an_llm_on_this_machine_is_called_without_the_proxy(
    monkeypatch: pytest.MonkeyPatch, transport: str, model: str, no_proxy: str
) -> None:
    monkeypatch.setenv("DISABLE_AIOHTTP_TRANSPORT", str(transport == "httpx"))
    with RecordingProxy.in_thread() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", no_proxy)
        async with ScriptedLLM() as llm:
            assert await ask(llm.base_url, model)
    assert proxy.heads == []


@pytest.mark.parametrize("transport", ["aiohttp", "httpx"])
@pytest.mark.parametrize("model", ["openai/scripted", "anthropic/claude-sonnet-4-5"])
async def test_an_llm_elsewhere_is_called_through_the_proxy(monkeypatch: pytest.MonkeyPatch, transport: str, model: str) -> None:
    monkeypatch.setenv("DISABLE_AIOHTTP_TRANSPORT", str(transport == "httpx"))
    with RecordingProxy.in_thread() as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "[::1],fe80::/10,fd07::/64,127.0.0.0/8,llm.test:8080")
        with pytest.raises((LLMError, OpenAIError)):
            await ask("http://llm.test/v1", model)
    assert proxy.targets
    assert all(target.startswith("POST http://llm.test/v1/") for target in proxy.targets)


async def test_clients_of_libraries_start_whatever_no_proxy_says(monkeypatch: pytest.MonkeyPatch) -> None:
    with RecordingProxy.in_thread() as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "[::1],fe80::/10,fd07::/64,mcp.test:99999,[2001:db8::1]:8080")
        async with ScriptedLLM() as llm, httpx.AsyncClient() as http:
            assert (await http.get(f"{llm.base_url}/models")).status_code != 403
            assert (await http.get("http://mcp.test/")).status_code == 403
    assert proxy.targets == ["GET http://mcp.test/"]
