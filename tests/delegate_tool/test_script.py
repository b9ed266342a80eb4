"""`delegate` and `adelegate`, as the author of a script uses them: endpoints, limits, errors, money, the form of an answer."""

import json
import logging
import pickle
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from delegate_tool import DelegationError, DelegationResult, DelegationStatus, adelegate, delegate
from delegate_tool.client import EndpointMissing
from delegate_tool.protocol.codes import CLIENT_CODES, ERROR_CODES
from delegate_tool.protocol.context import ContextError
from delegate_tool.protocol.limits import LIMITS
from delegate_tool.protocol.remedies import REMEDIES, remedy_for_people
from tests.delegate_tool.remote_endpoint import Answer, Behaviour, Refusal, RemoteEndpoint
from tests.error_texts.texts import pattern_of

pytestmark = pytest.mark.anyio

AGENT = "openhands_reviewer"
UNUSED: dict[str, Any] = {"base_url": "http://127.0.0.1:1/v1", "api_key": "key"}
GATEWAY = {"X-A2A-Protocol": "1", "X-A2A-Run-ID": "run-2"}


class City(BaseModel):
    name: str
    people: int


async def ask(endpoint: RemoteEndpoint, behaviour: Behaviour, **options: Any) -> DelegationResult:
    endpoint.plays(AGENT, behaviour)
    return await adelegate(AGENT, "review it", base_url=endpoint.base_url, api_key="key", **options)


def test_a_script_without_a_loop_delegates_with_the_environments_endpoint(
    endpoint: RemoteEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.plays(AGENT, Answer(["hi"]))
    monkeypatch.setenv("A2A_BASE_URL", endpoint.base_url)
    monkeypatch.setenv("A2A_API_KEY", "key-of-the-environment")
    assert delegate(AGENT, "t").answer == "hi"
    assert endpoint.received[0].headers["authorization"] == "Bearer key-of-the-environment"


@pytest.mark.parametrize(
    ("environment", "missing"), [({}, "A2A_BASE_URL"), ({"A2A_BASE_URL": "http://127.0.0.1:1/v1"}, "A2A_API_KEY")]
)
def test_a_missing_endpoint_is_said_by_the_name_of_the_variable(
    environment: dict[str, str], missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("A2A_BASE_URL", raising=False)
    monkeypatch.delenv("A2A_API_KEY", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(EndpointMissing, match=missing) as refusal:
        delegate(AGENT, "t")
    assert refusal.value.__context__ is None  # its traceback contains nothing else


@pytest.mark.parametrize("key", ["hunter2\nschlüssel", "hünter2"])
async def test_a_key_that_cannot_be_sent_is_refused_before_an_http_client_quotes_it(key: str) -> None:
    with pytest.raises(EndpointMissing, match="A2A_API_KEY") as refusal:
        await adelegate(AGENT, "t", base_url="http://127.0.0.1:1/v1", api_key=key)
    assert key not in str(refusal.value)


async def test_the_blocking_form_says_what_to_use_where_an_event_loop_runs() -> None:
    with pytest.raises(RuntimeError, match=pattern_of("RuntimeError: the blocking form in an event loop")):
        delegate(AGENT, "t", **UNUSED)


@pytest.mark.parametrize(
    "limits", [{"budget_usd": "lots"}, {"timeout_s": -1}, {"conversation_id": "7"}, {"allowed_agents": {"a", 1}}]
)
async def test_a_malformed_limit_is_the_callers_error(limits: dict[str, Any]) -> None:
    with pytest.raises(ContextError) as refusal:
        await adelegate(AGENT, "t", **UNUSED, **limits)
    assert [refusal.value.param] == list(limits)


@pytest.mark.parametrize("given", [{"agent": " "}, {"task": ""}, {"task": 7}])
async def test_an_argument_that_is_no_text_is_refused_by_its_name(given: dict[str, Any]) -> None:
    with pytest.raises(ContextError) as refusal:
        await adelegate(**{"agent": AGENT, "task": "t", **UNUSED, **given})
    assert [refusal.value.param] == list(given)


@pytest.mark.parametrize("base_url", ["127.0.0.1:8420/v1", "localhost:8420", "gateway", "http://", "ftp://a/v1", "http://a:b/v1"])
async def test_a_base_url_that_is_none_is_refused_before_a_request(base_url: str) -> None:
    with pytest.raises(EndpointMissing) as refusal:
        await adelegate(AGENT, "t", base_url=base_url, api_key="key")
    assert "A2A_BASE_URL" in str(refusal.value)


async def test_every_limit_of_the_table_is_a_parameter_and_is_sent_as_its_header(endpoint: RemoteEndpoint) -> None:
    asked = {
        "max_depth": 2,
        "max_breadth": 3,
        "max_runs": 4,
        "timeout_s": 60,
        "max_turns": 5,
        "budget_usd": Decimal("0.50"),
        "allowed_agents": {"openhands_b", "openhands_a"},
    }
    assert set(asked) == {limit.field for limit in LIMITS}
    await ask(endpoint, Answer(), **asked)
    (received,) = endpoint.received
    sent = ["2", "3", "4", "60", "5", "0.500000", "openhands_a,openhands_b"]
    assert [received.headers[limit.header.lower()] for limit in LIMITS] == sent


async def test_an_idempotency_key_of_ones_own_is_sent(endpoint: RemoteEndpoint) -> None:
    await ask(endpoint, Answer(), idempotency_key="job-7")
    assert endpoint.received[0].headers["idempotency-key"] == "job-7"


async def test_a_result_is_ok_has_its_cost_as_a_decimal_and_can_be_chained(endpoint: RemoteEndpoint) -> None:
    result = await ask(
        endpoint, Answer(["fine"], {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "cost": 0.0123})
    )
    assert (result.ok, result.cost_usd, result.raise_for_status()) == (True, Decimal("0.012300"), result)
    assert (await ask(endpoint, Answer())).cost_usd is None


async def test_a_refusal_can_be_raised_with_code_status_remedy_and_result(endpoint: RemoteEndpoint) -> None:
    result = await ask(endpoint, Refusal(404, {"message": "No such model.", "code": "model_not_found"}))
    with pytest.raises(DelegationError, match=r"refused.*model_not_found.*No such model") as refusal:
        result.raise_for_status()
    error: DelegationError = pickle.loads(pickle.dumps(refusal.value))
    assert (error.code, error.status, error.result) == ("model_not_found", DelegationStatus.REFUSED, result)
    assert error.remedy == REMEDIES["model_not_found"]
    assert str(error).endswith(error.remedy)


async def test_a_partial_answer_is_not_ok_and_is_in_the_error(endpoint: RemoteEndpoint) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "delegation": {"stop_reason": "budget_exceeded"}}
    result = await ask(endpoint, Answer(["half"], usage, finish_reason="length"))
    with pytest.raises(DelegationError) as limited:
        result.raise_for_status()
    assert (result.ok, limited.value.code, limited.value.result.answer) == (False, "budget_exceeded", "half")
    assert limited.value.remedy == REMEDIES["budget_exceeded"]


def test_a_remedy_for_people_does_not_address_an_agent() -> None:
    for code in [*ERROR_CODES, *CLIENT_CODES]:
        remedy = remedy_for_people(code)
        assert remedy.endswith("."), code
        assert not [words for words in ("yourself", "Delegate", "this run", "tool's description") if words in remedy], code
    assert set(REMEDIES) <= {*ERROR_CODES, *CLIENT_CODES}


@pytest.mark.parametrize(
    ("behaviour", "options", "enforced"),
    [
        (Answer(headers=GATEWAY), {"budget_usd": "0.50"}, True),
        (Answer(), {"budget_usd": "0.50"}, False),
        (Answer(), {}, None),
        (Refusal(404, "nope"), {"budget_usd": "0.50"}, None),
        (Refusal(500, {"code": "agent_stuck"}, GATEWAY), {"budget_usd": "0.50"}, True),
    ],
)
async def test_a_result_has_whether_its_budget_was_enforced(
    endpoint: RemoteEndpoint,
    behaviour: Behaviour,
    options: dict[str, Any],
    enforced: bool | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    result = await ask(endpoint, behaviour, **options)
    assert result.budget_enforced is enforced
    warned = [
        record for record in caplog.records if record.levelno == logging.WARNING and record.name.startswith("delegate_tool")
    ]
    assert len(warned) == (enforced is False)


SCHEMA = City.model_json_schema()
NULLABLE = {**SCHEMA, "type": ["object", "null"]}


@pytest.mark.parametrize(
    ("wanted", "sent", "parsed"),
    [
        (City, {"type": "json_schema", "json_schema": {"name": "City", "schema": SCHEMA}}, City(name="Ulm", people=7)),
        (SCHEMA, {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}, {"name": "Ulm", "people": 7}),
        (NULLABLE, {"type": "json_schema", "json_schema": {"name": "answer", "schema": NULLABLE}}, {"name": "Ulm", "people": 7}),
        ({"type": "json_object"}, {"type": "json_object"}, {"name": "Ulm", "people": 7}),
    ],
    ids=["model", "schema", "schema with a list of types", "json_object"],
)
async def test_an_answer_is_parsed_into_the_form_that_was_asked_for(
    endpoint: RemoteEndpoint, wanted: Any, sent: object, parsed: object
) -> None:
    result = await ask(endpoint, Answer([json.dumps({"name": "Ulm", "people": 7})]), response_format=wanted)
    assert endpoint.received[0].body["response_format"] == sent
    assert (result.ok, result.parsed) == (True, parsed)


@pytest.mark.parametrize(("wanted", "answer"), [(City, '{"name": "Ulm"}'), (City, "Ulm"), (SCHEMA, "Ulm")])
async def test_an_answer_in_another_form_is_a_failure_that_keeps_it(endpoint: RemoteEndpoint, wanted: Any, answer: str) -> None:
    result = await ask(endpoint, Answer([answer]), response_format=wanted)
    assert (result.status, result.error_code, result.parsed) == (DelegationStatus.FAILED, "response_format_violated", None)
    assert result.answer == answer


class Hook(BaseModel):
    call: Callable[[], None]


@pytest.mark.parametrize("wanted", [int, Hook])
async def test_a_response_format_without_a_json_schema_is_refused(wanted: Any) -> None:
    with pytest.raises(ContextError) as refusal:
        await adelegate(AGENT, "t", **UNUSED, response_format=wanted)
    assert refusal.value.param == "response_format"
