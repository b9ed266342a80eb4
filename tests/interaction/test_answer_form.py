"""Structured output through the front door: checked before the run, and after it, without holding up other requests."""

import asyncio
from typing import Any

import pytest
from openai import BadRequestError
from openai.types.chat import ChatCompletion

from tests.agents.schemas import doubling, unevaluated
from tests.support.gateway import GatewayUnderTest

pytestmark = pytest.mark.anyio

CITY = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"], "additionalProperties": False}


async def ask(gateway: GatewayUnderTest, schema: dict[str, Any] | None, answer: str) -> ChatCompletion:
    """Ask for an answer in a form, and have the LLM give that one."""
    form: Any = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema, "strict": True}}
    more: Any = {"response_format": form} if schema is not None else {}
    script = '[[llm {"steps": [{"content": %s}]}]]'
    async with gateway.client() as client:
        messages: Any = [{"role": "user", "content": script % _quote(answer)}]
        completion: ChatCompletion = await client.chat.completions.create(model="openhands_priced", messages=messages, **more)
        return completion


def _quote(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'


async def test_an_answer_in_the_form_that_was_asked_for(gateway: GatewayUnderTest) -> None:
    completion = await ask(gateway, CITY, '{"name": "Oslo"}')
    assert completion.choices[0].message.content == '{"name": "Oslo"}'


@pytest.mark.parametrize(
    ("schema", "code"),
    [
        ({"type": "wish"}, "invalid_request_error"),
        ({"$ref": "http://127.0.0.1:9/schema.json"}, "invalid_request_error"),
        (unevaluated(), "unsupported_parameter"),
    ],
    ids=["no schema", "elsewhere", "endless"],
)
async def test_a_schema_that_cannot_be_used_is_refused_before_the_run(
    gateway: GatewayUnderTest, schema: dict[str, Any], code: str
) -> None:
    with pytest.raises(BadRequestError) as caught:
        await ask(gateway, schema, "{}")
    assert (caught.value.code, caught.value.param) == (code, "response_format.json_schema.schema")
    assert "x-a2a-run-id" not in caught.value.response.headers


async def test_nine_answers_whose_check_never_ends_hold_up_no_other_run(gateway: GatewayUnderTest) -> None:
    endless = [asyncio.create_task(ask(gateway, doubling(), "{}")) for _ in range(9)]
    try:
        plain, formed = await asyncio.gather(ask(gateway, None, "Oslo"), ask(gateway, CITY, '{"name": "Oslo"}'))
        assert not all(task.done() for task in endless)
    finally:
        for task in endless:
            task.cancel()
        await asyncio.wait(endless)
    assert plain.choices[0].message.content == "Oslo"
    assert formed.choices[0].message.content == '{"name": "Oslo"}'
