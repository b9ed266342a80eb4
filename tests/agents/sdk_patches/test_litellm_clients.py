"""The HTTP clients of LiteLLM end with the gateway that used them."""

from pathlib import Path

import litellm
import pytest
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

from a2a_gateway.runs.events import Finished
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.agents.driver import a_recipe, an_llm, driving, script, user
from tests.agents.llm.anthropic_server import AnthropicServer

pytestmark = pytest.mark.anyio


async def test_a_runner_that_is_closed_leaves_no_session_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER", "true")
    before = set(litellm.in_memory_llm_clients_cache.cache_dict)
    async with ScriptedLLM() as llm, driving(tmp_path, a_recipe(an_llm(llm.base_url))) as driver:
        ran = await driver.run(script({"content": "Done."}))
        cached = litellm.in_memory_llm_clients_cache.cache_dict
        handlers = [cached[name] for name in set(cached) - before if isinstance(cached[name], AsyncHTTPHandler)]
        sessions = [handler.client._transport.client for handler in handlers]
        assert sessions and not any(session.closed for session in sessions)
    assert ran.outcome == Finished("Done.")
    assert all(session.closed for session in sessions)
    assert set(litellm.in_memory_llm_clients_cache.cache_dict) <= before


async def test_the_client_that_all_event_loops_share_is_closed_as_well(tmp_path: Path) -> None:
    server = AnthropicServer()
    async with server.serving() as url:
        async with driving(tmp_path, a_recipe(an_llm(url, model="anthropic/claude-sonnet-4-5"))) as driver:
            ran = await driver.run(user("Go."))
            session = litellm.module_level_aclient.client._transport.client  # type: ignore[attr-defined]
            assert not session.closed
        assert session.closed
    assert ran.outcome == Finished("ok")
