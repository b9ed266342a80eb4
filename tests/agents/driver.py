"""Drives the real runner: the real SDK, real tools, a scripted LLM over real HTTP, and a meter that remembers."""

import itertools
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from a2a_gateway.agents.assembly import REQUIRED_PATCHES
from a2a_gateway.agents.llm.configured_llm import ConfiguredLLM
from a2a_gateway.agents.recipe import AgentRecipe, ToolSpec
from a2a_gateway.agents.runner import AgentRunner
from a2a_gateway.agents.schema_checker import SchemaChecker
from a2a_gateway.agents.sdk_patches.patching import require
from a2a_gateway.agents.tools.toolbox import LocalToolbox
from a2a_gateway.errors import ModelNotFound
from a2a_gateway.runs.events import ContentDelta, Outcome, RunEnded, RunnerEvent
from a2a_gateway.runs.limits import Limits
from a2a_gateway.runs.messages import Message, Sampling, TextPart, UserMessage
from a2a_gateway.runs.model import AdmittedRun, CallQuote, ConversationId, Profile, RunId, TokenUsage
from a2a_gateway.runs.ports import Charge, Hold
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from delegate_tool.protocol.context import Narration
from tests.support.records import make_run_record

API_KEY = "sk-scripted-0123456789"
INPUT_USD, OUTPUT_USD = 1e-6, 2e-6
USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "cached_tokens": 400, "reasoning_tokens": 30}
USED = TokenUsage(1000, 100, cached=400, reasoning=30)
COST = 1200
"""Of `USAGE`, in micro-USD."""
_numbers = itertools.count(1)


@dataclass
class RecordingMeter:
    """Lets calls pass until `refuse_from` of them have been let through, then raises `refusal`; remembers what was booked.

    `grants` are what the holds say of the budget, one after the other; the last one stays.
    """

    refuse_from: int | None = None
    refusal: Exception | None = None
    grants: Sequence[Mapping[str, Any]] = ({},)
    quotes: list[CallQuote] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    followed: dict[str, Callable[[], int]] = field(default_factory=dict)
    charges: dict[str, Charge] = field(default_factory=dict)

    async def reserve(self, quote: CallQuote) -> Hold:
        if self.refusal is not None and self.refuse_from is not None and len(self.held) >= self.refuse_from:
            raise self.refusal
        self.quotes.append(quote)
        grant = self.grants[min(len(self.held), len(self.grants) - 1)]
        self.held.append(f"hold-{len(self.held)}")
        return Hold(self.held[-1], RunId("run"), **grant)

    async def escrow(self) -> Hold:
        raise AssertionError("an agent of this gateway asks for one call at a time")

    async def note_remote(self, remote_run_id: str) -> None:
        raise AssertionError("no peer executes this run")

    def follow(self, hold: Hold, used_micro_usd: Callable[[], int]) -> None:
        self.followed[hold.id] = used_micro_usd

    async def settle(self, hold: Hold, charge: Charge) -> None:
        assert hold.id in self.held, "booked without leave"
        assert hold.id not in self.charges, "booked twice"
        self.charges[hold.id] = charge

    @property
    def settled(self) -> list[tuple[TokenUsage, int | None]]:
        """Usage and cost of what was booked, in order; fails if a hold was left open."""
        assert list(self.charges) == self.held, "a hold was left open"
        return [(charge.usage, charge.cost_micro_usd) for charge in self.charges.values()]


@dataclass(frozen=True)
class Ran:
    """What came of one run."""

    events: list[RunnerEvent]
    meter: RecordingMeter

    @property
    def ended(self) -> RunEnded:
        """The run's last event."""
        last = self.events[-1]
        assert isinstance(last, RunEnded)
        return last

    @property
    def outcome(self) -> Outcome:
        return self.ended.outcome

    @property
    def code(self) -> str:
        """The code of the outcome's error."""
        return str(self.outcome.error.code)  # type: ignore[union-attr]  # an outcome without an error fails the test

    @property
    def content(self) -> str:
        """The content deltas, joined."""
        return "".join(event.text for event in self.events if isinstance(event, ContentDelta))


def user(text: str) -> UserMessage:
    return UserMessage((TextPart(text),))


def script(*steps: dict[str, Any], text: str = "Go.") -> UserMessage:
    """A task that tells the scripted LLM what to answer, turn by turn."""
    return user(f"{text} [[llm {json.dumps({'steps': steps})}]]")


def think(thought: str = "hm", content: str | None = None, **more: Any) -> dict[str, Any]:
    """A turn in which the LLM calls the think tool."""
    said = {} if content is None else {"content": content}
    return {**said, "tool_calls": [{"name": "think", "arguments": {"thought": thought}}], **more}


def sent(llm: ScriptedLLM, index: int = -1) -> dict[str, Any]:
    """The body of a request that the LLM got, by default of the last one."""
    return dict(llm.traffic.requests[index].body)


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message as it was sent."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def an_llm(base_url: str, **changes: Any) -> ConfiguredLLM:
    fields: dict[str, Any] = {"model": "openai/scripted", "api_key": SecretStr(API_KEY), "usage_id": "agent", "stream": True}
    waits = {"num_retries": 1, "retry_min_wait": 0, "retry_max_wait": 0, "retry_multiplier": 0}
    return ConfiguredLLM(base_url=base_url, **{**fields, **waits, **changes})


def a_recipe(llm: ConfiguredLLM, *tools: str, **changes: Any) -> AgentRecipe:
    profile = Profile("scripted", "A scripted agent.", "test", llm.model)
    made = AgentRecipe(profile, llm, INPUT_USD, OUTPUT_USD, tools=tuple(ToolSpec(name) for name in tools))
    return replace(made, **changes)


@dataclass
class Driver:
    """A runner with one recipe, and the runs to give it."""

    runner: AgentRunner
    workspace_dir: str
    recipe: AgentRecipe

    def admitted(self, *messages: Message, **changes: Any) -> AdmittedRun:
        """An admitted run; `limits` are those of its record."""
        limits = changes.pop("limits", Limits())
        record = make_run_record(
            f"run-{next(_numbers)}",
            agent="openhands_scripted",
            limits=limits,
            conversation_id=ConversationId("8f14e45f-ceea-467f-9d8c-5d9bb2b1a1f0"),
        )
        run = AdmittedRun(record, "scripted", messages, Sampling(), None, Narration.LIVE, self.workspace_dir, 30.0)
        return replace(run, **changes)

    async def run(
        self,
        *messages: Message,
        meter: RecordingMeter | None = None,
        watch: Callable[[AdmittedRun, RunnerEvent], Any] | None = None,
        **changes: Any,
    ) -> Ran:
        """Run to the end; `watch` is awaited with each event."""
        run, events = self.admitted(*messages, **changes), []
        meter = meter or RecordingMeter()
        async for event in self.runner.run(run, meter):
            events.append(event)
            if watch is not None:
                await watch(run, event)
        return Ran(events, meter)


@asynccontextmanager
async def driving(directory: Path, recipe: AgentRecipe) -> AsyncIterator[Driver]:
    """Open a runner with the real tools."""
    workspace = directory / "workspace"
    workspace.mkdir(parents=True)

    def find(name: str) -> AgentRecipe:
        if name != recipe.profile.name:
            raise ModelNotFound(f"There is no {name}.")
        return recipe

    toolbox = LocalToolbox(directory / "shells", shell_pool_size=0, environ=dict(os.environ))
    with require(REQUIRED_PATCHES):
        async with toolbox, SchemaChecker() as checker, AgentRunner(find, toolbox, checker, tool_threads=16) as runner:
            yield Driver(runner, str(workspace), recipe)
