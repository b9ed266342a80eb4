"""Answers are read whole or event by event below LiteLLM, of its own requests and of no others."""

import asyncio
from pathlib import Path

import httpx
import pytest
from openhands.sdk import Message, TextContent

from a2a_gateway.agents.llm.answer_reading import ANSWER_READING
from a2a_gateway.agents.llm.metered_llm import build_metered_llm
from a2a_gateway.agents.llm.pricing import Prices
from a2a_gateway.agents.llm.run_account import RunAccount
from a2a_gateway.agents.sdk_patches.patching import require
from a2a_gateway.errors import ConfigurationError
from tests.agents.driver import RecordingMeter, a_recipe, driving, user
from tests.agents.llm.provider_bytes import OPENAI
from tests.support.raw_llm import RawLLM, document_reply, stream_reply

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def as_in_a_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER", "true")


async def test_a_stream_that_was_not_read_first_fails_instead_of_losing_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with require(ANSWER_READING):
        monkeypatch.setattr(httpx.AsyncClient, "send", vars(httpx.AsyncClient.send)["__wrapped__"])
        with RawLLM([OPENAI.stream(*OPENAI.saying("ab"))]).in_thread() as url:
            async with driving(tmp_path, a_recipe(OPENAI.llm(url))) as driver:
                ran = await driver.run(user("Go."))
        monkeypatch.undo()
    assert ran.code == "llm_unavailable"


def test_a_version_of_httpx_that_cannot_be_read_from_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(httpx.Client, "send")
    with pytest.raises(ConfigurationError), require(ANSWER_READING):
        pass


async def test_other_requests_of_the_process_are_left_alone() -> None:
    document = b'{"choices":  null}'
    with require(ANSWER_READING):
        async with RawLLM([stream_reply(document)]).serving() as url, httpx.AsyncClient() as client:
            async with client.stream("POST", url, json={}) as response:
                assert [line async for line in response.aiter_lines()] == [document.decode()]
            assert (await client.post(url, json={})).content == document


async def test_a_side_call_of_a_tool_is_repaired_as_well(tmp_path: Path) -> None:
    answer = {"choices": [{"message": {"role": "assistant", "content": "Yes."}}], "id": 7, "created": None}
    with require(ANSWER_READING), RawLLM([document_reply(answer)]).in_thread() as url:
        account = RunAccount(RecordingMeter(), max_turns=1, emit=lambda _: None)
        llm = build_metered_llm(OPENAI.llm(url), account, Prices("openai/m"))
        question = Message(role="user", content=[TextContent(text="Is it?")])
        response = await asyncio.to_thread(llm.completion, [question])
    assert response.message.content == [TextContent(text="Yes.")]
    assert response.id == "7"
