"""What a call costs, from replies as providers send them."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litellm.types.llms.openai import ResponsesAPIResponse
from litellm.types.utils import Choices, Message, ModelResponse, Usage

from a2a_gateway.agents.llm.pricing import ExactSum, Prices, answer_bytes, estimate_usage, reported_cost, usage_of
from a2a_gateway.runs.model import CallQuote, TokenUsage


def reply(model: str = "some-model", *, answered: str | None = None, header: str | None = None, **usage: Any) -> ModelResponse:
    made = ModelResponse(model=model, usage=Usage(**{"prompt_tokens": 1000, "completion_tokens": 100, **usage}))
    if answered is not None:  # as LiteLLM builds the reply of a stream
        made._hidden_params["provider_response_model"] = answered
    if header is not None:
        made._hidden_params["additional_headers"] = {"llm_provider-x-litellm-response-cost": header}
    return made


def cost(prices: Prices, made: ModelResponse) -> Decimal | None:
    usage = usage_of(made)
    assert usage is not None
    return prices.cost_usd(made, usage, reported_cost(made))


UNLISTED = Prices("openai/some-model")
LOCAL = replace(UNLISTED, is_local=True)
ROUTED = Prices("openrouter/some-model", 1e-6, 2e-6)
GIVEN = Prices("openai/some-model", 1e-6, 2e-6)


@pytest.mark.parametrize(
    ("prices", "made", "expected"),
    [
        pytest.param(GIVEN, reply(header="4.25e-05", cost=0.5), Decimal("0.0000425"), id="the proxy's header first"),
        pytest.param(ROUTED, reply(cost=0.004599), Decimal("0.004599"), id="then OpenRouter's cost in the usage"),
        pytest.param(GIVEN, reply(cost=0.5), Decimal("0.0012"), id="then the profile's prices"),
        pytest.param(UNLISTED, reply(cost=0.004599), Decimal("0.004599"), id="then anybody's cost in the usage"),
        pytest.param(Prices("openai/gpt-4o"), reply("gpt-4o"), Decimal("0.0035"), id="then LiteLLM's map"),
        pytest.param(Prices("openai/gpt-4o"), reply("my-alias"), Decimal("0.0035"), id="the map, by the name that was asked for"),
        pytest.param(
            Prices("openai/gpt-4o"),
            reply("gpt-4o", answered="gpt-4.1"),
            Decimal("0.0028"),
            id="the map, by what has answered",
        ),
        pytest.param(Prices("litellm_proxy/gpt-4o"), reply("gpt-4o"), Decimal("0.0035"), id="the map, behind a proxy"),
        pytest.param(
            Prices("deepseek/deepseek-chat"), reply("deepseek-chat"), Decimal("0.000322"), id="the map, whose owner no name tells"
        ),
        pytest.param(LOCAL, reply(), Decimal(0), id="a local server is free"),
        pytest.param(LOCAL, reply("gpt-4o"), Decimal(0), id="whatever name it gives its model"),
        pytest.param(LOCAL, reply(header="0.5"), Decimal("0.5"), id="unless it reports a cost, as a proxy does"),
        pytest.param(LOCAL, reply(cost=0.5), Decimal("0.5"), id="also in the usage"),
        pytest.param(replace(GIVEN, is_local=True), reply(), Decimal("0.0012"), id="or the profile sets prices"),
        pytest.param(Prices("openai/gpt-4o", is_local=True), reply("gpt-4o"), Decimal("0.0035"), id="or the map has its price"),
        pytest.param(UNLISTED, reply(), None, id="else unknown, which is not zero"),
        pytest.param(GIVEN, reply(header="nan"), Decimal("0.0012"), id="a header that is no amount counts as none"),
        pytest.param(GIVEN, reply(header="-1"), Decimal("0.0012"), id="nor does a negative one"),
        pytest.param(GIVEN, reply(header="1e999999999"), Decimal("0.0012"), id="nor one that nobody could pay"),
        pytest.param(UNLISTED, reply(header="0"), Decimal(0), id="a reported zero is free where no price is known"),
        pytest.param(UNLISTED, reply(cost=0), Decimal(0), id="so is one in the usage"),
        pytest.param(GIVEN, reply(header="0"), Decimal("0.0012"), id="a zero does not beat the profile's prices"),
        pytest.param(GIVEN, reply(header="0", cost=0), Decimal("0.0012"), id="nor do two"),
        pytest.param(ROUTED, reply(cost=0), Decimal("0.0012"), id="nor one of OpenRouter"),
        pytest.param(Prices("litellm_proxy/gpt-4o"), reply("gpt-4o", header="0"), Decimal("0.0035"), id="nor the map's"),
        pytest.param(GIVEN, reply(header="0", cost=0.5), Decimal("0.0012"), id="nor does it hide that the profile's come next"),
        pytest.param(UNLISTED, reply(header="0", cost=0.5), Decimal("0.5"), id="nor a cost in the usage"),
        pytest.param(Prices("openai/some-model", 0.0, 0.0), reply(cost=0.5), Decimal(0), id="a profile may say that it is free"),
    ],
)
def test_the_cost_is_the_first_that_is_known(prices: Prices, made: ModelResponse, expected: Decimal | None) -> None:
    assert cost(prices, made) == expected


SPLIT = {"upstream_inference_prompt_cost": 0.002, "upstream_inference_completions_cost": 0.003}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.0360795}}, "0.0360795"),
        ({"cost": 0.0018, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.036}}, "0.0378"),
        ({"cost": 0.95, "cost_details": {"upstream_inference_cost": 19}}, "19.95"),
        ({"cost": 0.004, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.004}}, "0.004"),
        ({"cost": 0.004, "cost_details": {"upstream_inference_cost": 0.004}}, "0.004"),
        ({"cost": 0.004, "is_byok": False, "cost_details": {"upstream_inference_cost": None}}, "0.004"),
        ({"cost": 0.0002, "is_byok": True}, "0.0012"),
        ({"cost": 0.001, "is_byok": True, "cost_details": SPLIT}, "0.006"),
    ],
    ids=[
        "no fee",
        "with a fee",
        "not said to be one's own",
        "no own key",
        "nor said",
        "no details",
        "only a fee",
        "split into prompt and completion",
    ],
)
def test_a_provider_s_key_of_one_s_own_costs_the_fee_and_the_provider_s_price(usage: dict[str, Any], expected: str) -> None:
    assert cost(ROUTED, reply(**usage)) == Decimal(expected)


def test_a_zero_without_usage_leaves_a_known_price_to_be_estimated() -> None:
    assert GIVEN.cost_usd(reply(header="0"), None, None) is None
    assert Prices("openai/gpt-4o").cost_usd(reply("gpt-4o", header="0"), None, None) is None
    assert UNLISTED.cost_usd(reply(header="0"), None, None) == 0


def test_cached_tokens_have_the_price_that_the_profile_gives_for_them() -> None:
    made = reply(prompt_tokens_details={"cached_tokens": 400})
    assert cost(GIVEN, made) == Decimal("0.0012")
    assert cost(replace(GIVEN, cached_input_usd_per_token=1e-7), made) == Decimal("0.00084")


@pytest.mark.parametrize(
    ("completion", "reasoning", "total", "expected"),
    [(100, 30, 1100, 100), (100, 30, 1130, 130), (9, 191, 1200, 200), (9, 191, 1009, 200)],
    ids=["a part", "beside it", "more than it", "more than it, whatever the total"],
)
def test_reasoning_that_is_counted_beside_the_completion_is_added_to_it(
    completion: int, reasoning: int, total: int, expected: int
) -> None:
    details = {"reasoning_tokens": reasoning}
    made = reply(completion_tokens=completion, completion_tokens_details=details, total_tokens=total)
    assert usage_of(made) == TokenUsage(1000, expected, reasoning=reasoning)


def test_the_map_knows_the_discount_on_cached_tokens() -> None:
    made = reply("gpt-4o", prompt_tokens_details={"cached_tokens": 400})
    assert cost(Prices("openai/gpt-4o"), made) == Decimal("0.0030")


def test_usage_is_read_from_both_endpoints() -> None:
    chat = reply(prompt_tokens_details={"cached_tokens": 400}, completion_tokens_details={"reasoning_tokens": 30})
    answer = ResponsesAPIResponse.model_validate(
        {
            "id": "r",
            "created_at": 0,
            "model": "gpt-5",
            "object": "response",
            "output": [],
            "usage": {
                "input_tokens": 1000,
                "input_tokens_details": {"cached_tokens": 400},
                "output_tokens": 100,
                "output_tokens_details": {"reasoning_tokens": 30},
                "total_tokens": 1100,
            },
        }
    )
    expected = TokenUsage(prompt=1000, completion=100, cached=400, reasoning=30)
    assert [usage_of(chat), usage_of(answer)] == [expected, expected]


@pytest.mark.parametrize(
    "nonsense",
    [
        {"prompt_tokens": -5},
        {"completion_tokens": 10**30},
        {"prompt_tokens_details": {"cached_tokens": -1}},
        {"cache_creation_input_tokens": -5},
    ],
)
def test_tokens_that_cannot_be_are_no_usage(nonsense: dict[str, Any]) -> None:
    assert usage_of(reply(**nonsense)) is None


def test_a_price_of_the_map_for_what_cannot_be_is_none() -> None:
    made = reply("gpt-4o-audio-preview", prompt_tokens_details={"audio_tokens": 10**15})
    assert cost(Prices("openai/gpt-4o-audio-preview"), made) is None


def test_a_reply_without_usage_has_none_rather_than_zero() -> None:
    assert usage_of(reply(prompt_tokens=0, completion_tokens=0)) is None


@pytest.mark.parametrize(
    ("prices", "expected"),
    [
        pytest.param(GIVEN, ("0.000001", "0.000002"), id="the profile's prices"),
        pytest.param(Prices("openai/gpt-4o"), ("0.0000025", "0.00001"), id="LiteLLM's map"),
        pytest.param(Prices("anthropic/claude-sonnet-4-5"), ("0.00000375", "0.000015"), id="what writing to the cache costs"),
        pytest.param(UNLISTED, None, id="else unknown"),
        pytest.param(LOCAL, ("0", "0"), id="but that of a local server is zero"),
        pytest.param(replace(UNLISTED, unpriced_usd_per_token=Decimal("0.1")), ("0.1", "0.1"), id="or what stands in for it"),
    ],
)
def test_a_quote_has_the_first_price_that_is_known(prices: Prices, expected: tuple[str, str] | None) -> None:
    prompt, output = (None, None) if expected is None else map(Decimal, expected)
    assert prices.quote(1000, 100) == CallQuote(1000, 100, prompt, output)
    assert (prices.source is not None) == (expected is not None)


@given(
    st.sampled_from(["openai/gpt-4o", "openai/gpt-5", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-pro"]),
    st.lists(st.integers(0, 300_000), min_size=3, max_size=3),
    st.lists(st.integers(0, 60_000), min_size=2, max_size=2),
)
def test_no_call_within_its_quote_costs_more_than_it(model: str, prompt: list[int], completion: list[int]) -> None:
    """Whatever part of the prompt is read from a cache or written to it, and however long it is."""
    name = model.partition("/")[2]
    made = reply(
        name,
        prompt_tokens=sum(prompt),
        completion_tokens=sum(completion),
        prompt_tokens_details={"cached_tokens": prompt[0]},
        completion_tokens_details={"reasoning_tokens": completion[0]},
        cache_creation_input_tokens=prompt[1],
        cache_read_input_tokens=prompt[0],
    )
    quote = Prices(model).quote(sum(prompt), sum(completion))
    assert quote.usd_per_prompt_token is not None
    assert quote.usd_per_output_token is not None
    most = quote.prompt_tokens * quote.usd_per_prompt_token + quote.max_output_tokens * quote.usd_per_output_token
    assert (Prices(model).cost_usd(made, TokenUsage(sum(prompt), sum(completion)), None) or 0) <= most + Decimal("0.000001")


def test_an_estimate_is_never_nothing_and_never_more_than_the_call_might_produce() -> None:
    assert [estimate_usage(0, 0), estimate_usage(9, 1), estimate_usage(9, 99, 7)] == [
        TokenUsage(1, 0),
        TokenUsage(3, 1),
        TokenUsage(3, 7),
    ]
    assert GIVEN.estimate_usd(TokenUsage(3, 1)) == Decimal("0.000005")
    assert Prices("openai/gpt-4o").estimate_usd(TokenUsage(1000, 100)) == Decimal("0.0035")
    assert UNLISTED.estimate_usd(TokenUsage(3, 1)) is None


@pytest.mark.parametrize("value", [None, True, "free", float("inf"), -0.1, 1e10])
def test_a_reported_cost_that_is_no_amount_is_unknown(value: object) -> None:
    assert reported_cost(reply(cost=value)) is None


def test_an_answer_is_as_long_as_what_it_says_whichever_endpoint_it_is_from() -> None:
    chat = ModelResponse(choices=[Choices(message=Message(content="ü" * 500))])
    says = {"type": "output_text", "text": "ü" * 500, "annotations": []}
    message = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [says]}
    answer = ResponsesAPIResponse.model_validate(
        {"id": "r", "created_at": 0, "model": "m", "object": "response", "output": [message]}
    )
    for one in (chat, answer):
        assert 1000 < answer_bytes(one) < 1300


@given(st.lists(st.decimals(min_value=0, max_value=10, places=9), max_size=50))
def test_the_parts_of_a_sum_add_up_to_the_sum_rounded_once(costs: list[Decimal]) -> None:
    total = ExactSum()
    parts = [total.add(cost) for cost in costs]
    assert all(part >= 0 for part in parts)
    exact = sum(costs, Decimal(0)) * 1_000_000
    assert abs(sum(parts) - exact) <= Decimal("0.5")


def test_turns_of_less_than_a_micro_usd_are_not_rounded_away() -> None:
    total = ExactSum()
    assert [total.add(Decimal("0.0000004")) for _ in range(5)] == [0, 1, 0, 1, 0]
