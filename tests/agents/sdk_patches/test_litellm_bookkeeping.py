"""LiteLLM's own records of a call: made only for somebody who reads them."""

from collections.abc import Iterator
from typing import Any

import httpx
import litellm
import litellm.main
import pytest
from litellm.integrations.custom_logger import CustomLogger
from litellm.litellm_core_utils import streaming_handler
from litellm.litellm_core_utils.litellm_logging import Logging
from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER
from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler
from openhands.sdk import Message, TextContent

from a2a_gateway.agents.llm.metered_llm import build_metered_llm
from a2a_gateway.agents.llm.pricing import Prices
from a2a_gateway.agents.llm.run_account import RunAccount
from a2a_gateway.agents.sdk_patches import litellm_bookkeeping
from a2a_gateway.agents.sdk_patches.litellm_bookkeeping import BOOKKEEPING
from a2a_gateway.agents.sdk_patches.patching import apply_optional
from a2a_gateway.testing.script import Script, ScriptedCall, Step, Usage
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.agents.driver import INPUT_USD, OUTPUT_USD, RecordingMeter, an_llm

pytestmark = pytest.mark.anyio


class Record(CustomLogger):
    """A callback as users of LiteLLM write it."""

    def __init__(self) -> None:
        super().__init__()
        self.costs: list[Any] = []

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self.costs.append(kwargs["response_cost"])


@pytest.fixture(autouse=True)
def no_callbacks() -> Iterator[None]:
    """Start from a process without callbacks, and leave one."""
    apply_optional(BOOKKEEPING)
    lists = ("callbacks", "success_callback", "_async_success_callback")
    before = {name: getattr(litellm, name) for name in lists}
    for name in lists:
        setattr(litellm, name, [])
    yield
    for name, callbacks in before.items():
        setattr(litellm, name, callbacks)


async def ask(llm: ScriptedLLM) -> Any:
    return await litellm.acompletion(
        model="openai/gpt-4o", api_base=llm.base_url, api_key="sk-x", messages=[{"role": "user", "content": "hi"}]
    )


async def ask_streaming(step: Step) -> dict[str, Any]:
    """What a stream says, put together as the SDK does it."""
    async with ScriptedLLM(Script((step,))) as llm:
        stream = await litellm.acompletion(
            model="openai/gpt-4o",
            api_base=llm.base_url,
            api_key="sk-x",
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        reply = litellm.stream_chunk_builder([chunk async for chunk in stream])
    await GLOBAL_LOGGING_WORKER.flush()
    assert reply is not None
    said: dict[str, Any] = reply.model_dump(exclude={"created"})
    said["usage"].pop("cost", None)  # LiteLLM's own reckoning
    return said


def replaced() -> tuple[Any, ...]:
    return (
        Logging._response_cost_calculator,
        Logging.dispatch_success_handlers,
        CustomStreamWrapper._finalize_completed_stream,
        litellm.main._set_stream_builder_response_cost,
    )


def test_the_pinned_litellm_has_what_is_replaced_and_it_is_replaced_once() -> None:
    before = replaced()
    apply_optional(BOOKKEEPING)
    assert replaced() == before
    assert {function.__module__ for function in before} == {litellm_bookkeeping.__name__}


async def test_the_tokenizer_that_each_call_is_handed_is_loaded_when_it_counts() -> None:
    handed = litellm.main._get_encoding()
    await ask_streaming(Step(content="ok"))
    assert litellm.main._get_encoding() is handed
    assert type(handed).__module__ == litellm_bookkeeping.__name__
    assert handed.encode("It is 42.") == litellm.main._load_default_encoding().encode("It is 42.")


@pytest.mark.parametrize("registered", [[], ["cache"]], ids=["no callback", "LiteLLM's own, as by a call to Gemini"])
async def test_without_a_callback_no_price_is_worked_out_and_nothing_is_logged(registered: list[Any]) -> None:
    litellm.success_callback = litellm._async_success_callback = registered
    async with ScriptedLLM() as llm:
        response = await ask(llm)
        await GLOBAL_LOGGING_WORKER.flush()
    assert (litellm.callbacks, litellm.success_callback, litellm._async_success_callback) == ([], registered, registered)
    assert response.choices[0].message.content == "ok"
    assert response._hidden_params.get("response_cost") is None


async def test_a_registered_callback_gets_its_record_with_the_price() -> None:
    record = Record()
    litellm.callbacks = [record]
    async with ScriptedLLM() as llm:
        await ask(llm)
        await GLOBAL_LOGGING_WORKER.flush()
    [cost] = record.costs
    assert cost > 0


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(Step(content="It is 42.", usage=Usage(1000, 100, cached_tokens=400, reasoning_tokens=30)), id="text"),
        pytest.param(Step(content="42", reasoning="Well …", usage=Usage(1000, 100)), id="text and reasoning"),
        pytest.param(Step(tool_calls=(ScriptedCall("terminal", {"command": "ls"}),)), id="a tool call"),
        pytest.param(Step(content="It is 42.", usage="omitted"), id="no usage, so that LiteLLM estimates one"),
        pytest.param(Step(content="", usage=Usage(10, 0)), id="nothing"),
    ],
)
async def test_a_stream_says_the_same_whether_or_not_it_is_recorded(step: Step) -> None:
    alone = await ask_streaming(step)
    litellm.callbacks = [Record()]
    recorded = await ask_streaming(step)
    assert alone == recorded
    assert alone["usage"]["prompt_tokens"] > 0


async def test_a_recorded_stream_gets_its_record_with_the_price() -> None:
    record = Record()
    litellm.callbacks = [record]
    await ask_streaming(Step(content="ok"))
    [cost] = record.costs
    assert cost > 0


@pytest.mark.parametrize("stream", [False, True])
async def test_our_own_prices_are_none_of_litellm_s(stream: bool) -> None:
    async with ScriptedLLM() as server:
        meter = RecordingMeter()
        account = RunAccount(meter, max_turns=1, emit=lambda _: None)
        llm = build_metered_llm(an_llm(server.base_url, stream=stream), account, Prices("openai/scripted", INPUT_USD, OUTPUT_USD))
        await llm.acompletion([Message(role="user", content=[TextContent(text="hi")])])
    [(usage, cost)] = meter.settled
    assert cost == usage.prompt + 2 * usage.completion > 0


async def test_where_cookies_are_blocked_nobody_looks_for_them() -> None:
    async with AsyncHTTPHandler().client as client:
        response = httpx.Response(200, headers={"set-cookie": "a=b"}, request=httpx.Request("GET", "http://provider.example"))
        httpx.Cookies.extract_cookies(kept := httpx.Cookies(), response)
        client._cookies.extract_cookies(response)
        assert (dict(kept), dict(client.cookies)) == ({"a": "b"}, {})


def test_the_address_for_a_proxy_is_found_for_a_callback_alone() -> None:
    def address() -> str | None:
        found: str | None = vars(streaming_handler)["get_api_base"](model="openai/x", optional_params={"api_base": "http://x"})
        return found

    assert address() is None
    litellm.callbacks = [Record()]
    assert address() == "http://x"
