"""What crosses the runner port is plain data: it survives a pickle, so that a runner may be in another process."""

import pickle
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from decimal import Decimal
from typing import Any, get_args

import pytest

from a2a_gateway.errors import BudgetExceeded, GatewayError, LLMRateLimited
from a2a_gateway.runs.events import (
    Cancelled,
    ContentDelta,
    Failed,
    Finished,
    Limited,
    OptionsIgnored,
    Outcome,
    ReasoningDelta,
    RunEnded,
    RunnerEvent,
    ToolFinished,
    ToolStarted,
    TurnFinished,
)
from a2a_gateway.runs.kept_text import KeptText
from a2a_gateway.runs.limits import Limits
from a2a_gateway.runs.messages import (
    AnswerFormat,
    AssistantMessage,
    ImagePart,
    Message,
    Sampling,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from a2a_gateway.runs.model import AdmittedRun, CallQuote, ConversationId, KeyId, RunId, RunRecord, RunState, TokenUsage, TreeId
from a2a_gateway.runs.ports import Charge, Hold
from delegate_tool.protocol.context import AgentCard, DelegationBinding, Narration

TEXT = TextPart("Look at this.")
MESSAGES: tuple[Message, ...] = (
    SystemMessage((TEXT,)),
    UserMessage((TEXT, ImagePart("https://example.com/a.png", detail="low")), name="ann"),
    AssistantMessage((TEXT,), (ToolCall("call-1", "look", '{"at": 1}'),)),
    ToolMessage("call-1", (TEXT,)),
)
RECORD = RunRecord(
    id=RunId("run-1"),
    tree_id=TreeId("run-1"),
    parent_id=None,
    key_id=KeyId("key-1"),
    agent="openhands_scripted",
    depth=0,
    state=RunState.RUNNING,
    limits=Limits(allowed_agents=frozenset({"openhands_reviewer"})),
    deadline_at=1_700_000_060.0,
    task_hash="mark",
    conversation_id=ConversationId("8f14e45f-ceea-467f-9d8c-5d9bb2b1a1f0"),
    created_at=1_700_000_000.0,
    usage=TokenUsage(1000, 100, cached=400, reasoning=30),
)
BINDING = DelegationBinding(
    "http://127.0.0.1:8311/v1",
    "run-token",
    "run-1",
    "openhands_scripted",
    agents=(AgentCard("openhands_reviewer", "Reviews."),),
    depth=0,
    depth_left=3,
    runs_left=50,
    budget_left_micro_usd=1_000_000,
    timeout_s=60.0,
)
RUN = AdmittedRun(
    RECORD,
    "scripted",
    MESSAGES,
    Sampling(temperature=0.5, stop=("END",), seed=7),
    AnswerFormat("json_schema", "verdict", {"type": "object", "properties": {"ok": {"type": "boolean"}}}),
    Narration.REASONING,
    "/workspace",
    60.0,
    transcript="[]",
    binding=BINDING,
    via=("near",),
    actors=("near/openhands_lead",),
    trail=("mark",),
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)
OUTCOMES: tuple[Outcome, ...] = (
    Finished("Done."),
    Limited("Half.", "budget_exceeded", BudgetExceeded("Spent.", details={"budget_usd": "1"})),
    Failed(LLMRateLimited("Slow down.", retry_after_s=20), "So far."),
    Cancelled("So far.", "Stopped."),
)
EVENTS: tuple[RunnerEvent, ...] = (
    OptionsIgnored(("seed",)),
    ContentDelta("Do"),
    ReasoningDelta("Hm"),
    TurnFinished(1, TokenUsage(10, 1), None),
    ToolStarted("terminal", "call-1", KeptText("{", is_truncated=True)),
    ToolFinished("terminal", "call-1", is_error=True, child_run_id="run-2"),
    *(RunEnded(outcome, "[]") for outcome in OUTCOMES),
)
OF_THE_METER = (
    CallQuote(10, 100, Decimal("0.000001"), Decimal("0.000002"), sent_micro_usd=10, is_turn=False),
    Hold("hold-1", RunId("run-1"), 100, 50, last=True, budget_micro_usd=1000, left_micro_usd=10, presumed_micro_usd=5),
    Charge(TokenUsage(10, 1), None, complete=False, turns=0, runs=2, final=False),
)


def error_classes(base: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    yield base
    for subclass in base.__subclasses__():
        yield from error_classes(subclass)


def facts(value: Any) -> Any:
    """Return the content of a value, so that two errors with the same content are equal."""
    if isinstance(value, GatewayError):
        said = value.message, str(value), value.param, value.details, value.retry_after_s
        return type(value), value.code, value.retryable, *said
    if is_dataclass(value):
        return type(value), {item.name: facts(getattr(value, item.name)) for item in fields(value)}
    return value


def pickle_round_trip(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


@pytest.mark.parametrize("value", [RUN, *OF_THE_METER, *EVENTS], ids=lambda value: type(value).__name__)
def test_each_value_that_crosses_the_port_survives_a_pickle(value: object) -> None:
    assert facts(pickle_round_trip(value)) == facts(value)


@pytest.mark.parametrize("kind", sorted(set(error_classes()), key=str))
def test_each_error_survives_a_pickle(kind: type[GatewayError]) -> None:
    error = kind("It failed.", param="model", details={"run_id": "run-1", "limit": 3}, retry_after_s=2.5)
    for each in (error, error.as_final("Do not try again.")):
        assert facts(pickle_round_trip(each)) == facts(each)


def test_the_values_that_are_pickled_are_of_all_kinds() -> None:
    assert {type(message) for message in MESSAGES} == set(get_args(Message.__value__))
    assert {type(outcome) for outcome in OUTCOMES} == set(get_args(Outcome.__value__))
    assert {type(event) for event in EVENTS} == set(get_args(RunnerEvent.__value__))
