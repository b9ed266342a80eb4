"""LiteLLM's own records of a call: made only for somebody who reads them."""

from collections.abc import Iterator
from typing import Any

import litellm
import pytest
from litellm.integrations.custom_logger import CustomLogger
from litellm.litellm_core_utils.litellm_logging import Logging
from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER
from openhands.sdk import Message, TextContent

from a2a_gateway.agents.account import RunAccount
from a2a_gateway.agents.litellm_bookkeeping import skip_litellm_bookkeeping
from a2a_gateway.agents.llm import metered
from a2a_gateway.agents.pricing import Prices
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
    skip_litellm_bookkeeping()
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


def test_the_pinned_litellm_has_what_is_replaced_and_it_is_replaced_once() -> None:
    replaced = (Logging._response_cost_calculator, Logging.dispatch_success_handlers)
    skip_litellm_bookkeeping()
    assert (Logging._response_cost_calculator, Logging.dispatch_success_handlers) == replaced
    assert all(getattr(function, "skips", False) for function in replaced)


async def test_without_a_callback_no_price_is_worked_out_and_nothing_is_logged() -> None:
    async with ScriptedLLM() as llm:
        response = await ask(llm)
        await GLOBAL_LOGGING_WORKER.flush()
    assert (litellm.callbacks, litellm.success_callback, litellm._async_success_callback) == ([], [], [])
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


@pytest.mark.parametrize("stream", [False, True])
async def test_our_own_prices_are_none_of_litellm_s(stream: bool) -> None:
    async with ScriptedLLM() as server:
        meter = RecordingMeter()
        account = RunAccount(meter, max_turns=1, tell=lambda _: None)
        llm = metered(an_llm(server.base_url, stream=stream), account, Prices("openai/scripted", INPUT_USD, OUTPUT_USD))
        await llm.acompletion([Message(role="user", content=[TextContent(text="hi")])])
    [(usage, cost)] = meter.settled
    assert cost == usage.prompt + 2 * usage.completion > 0
