"""Every runner there is, opened for the tests of what all of them promise. A new runner is one more line in `RUNNERS`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from pydantic import SecretStr

from a2a_gateway.errors import LLMBadRequest
from a2a_gateway.host.clock import SystemClock
from a2a_gateway.peer_settings import PeerSettings
from a2a_gateway.peers import Identity, KnownPeers, PeerDirectory, PeerRunner, SigningKey
from a2a_gateway.runs.events import ContentDelta, Failed, Finished, RunEnded
from a2a_gateway.runs.messages import TextPart, UserMessage
from a2a_gateway.runs.model import AdmittedRun, RunRecord
from a2a_gateway.runs.ports import Runner
from a2a_gateway.settings import Settings
from a2a_gateway.testing.script import Gate, Step, marker
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from a2a_gateway.testing.scripted_runner import RunStep, ScriptedRunner, Spend, Until
from tests.agents.driver import a_recipe, an_llm, driving
from tests.peers.added import Added


class Task(Enum):
    """What a run is to do."""

    ANSWER = "answer"
    HANG = "hang"
    FAIL = "fail"


ANSWER = "one two"
BEGINNING = "one "
"""What a run that hangs has written by then."""
STEPS = {
    Task.ANSWER: Step(content=ANSWER),
    Task.HANG: Step(content=ANSWER, gate=Gate("never", after=2)),
    Task.FAIL: Step(status=400, error="No."),
}


@dataclass(frozen=True)
class RunnerUnderTest:
    """An open runner. `addressed` makes a run of its agent out of one that is another's."""

    runner: Runner
    workspace_dir: str = ""
    addressed: Callable[[AdmittedRun], AdmittedRun] = lambda run: run


def messages(task: Task) -> tuple[UserMessage, ...]:
    """Ask for a task: by a script for the LLM, which other runners read by its first word."""
    return (UserMessage((TextPart(f"{task.value} {marker(STEPS[task])}"),)),)


@asynccontextmanager
async def agents(home: Path) -> AsyncIterator[RunnerUnderTest]:
    async with ScriptedLLM() as llm, driving(home, a_recipe(an_llm(llm.base_url))) as driver:
        yield RunnerUnderTest(driver.runner, driver.workspace_dir)


@asynccontextmanager
async def peers(home: Path) -> AsyncIterator[RunnerUnderTest]:
    async with ScriptedLLM() as llm:
        plain = {"id": "plain", "base_url": llm.base_url, "api_key": SecretStr("sk-plain-0123456789"), "opaque": True}
        prices = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2, "agents": ["scripted"]}
        settings = Settings(gateway_id="near", data_dir=home, profiles=(), peers=(PeerSettings.model_validate(plain | prices),))
        identity = Identity("near", SigningKey.generate(), SystemClock(), {})
        async with PeerDirectory(KnownPeers(settings, Added()), identity, refresh_s=600) as directory:
            runner = PeerRunner(directory, gateway_id="near", plain_retries=0)
            yield RunnerUnderTest(runner, addressed=lambda run: replace(run, peer="plain", record=_agent(run, "plain/scripted")))


@asynccontextmanager
async def scripted_runner(_: Path) -> AsyncIterator[RunnerUnderTest]:
    yield RunnerUnderTest(ScriptedRunner(script_of))


def script_of(run: AdmittedRun) -> Sequence[RunStep]:
    """Return what the scripted runner does for a task."""
    [message] = run.messages
    assert isinstance(message, UserMessage)
    [part] = message.parts
    assert isinstance(part, TextPart)
    match Task(part.text.split()[0]):
        case Task.ANSWER:
            return ContentDelta(BEGINNING), Spend(5), ContentDelta("two"), RunEnded(Finished(ANSWER))
        case Task.HANG:
            return ContentDelta(BEGINNING), Spend(5, gate=asyncio.Event()), Until(asyncio.Event())
        case Task.FAIL:
            return Spend(0), RunEnded(Failed(LLMBadRequest("No.")))


def _agent(run: AdmittedRun, model: str) -> RunRecord:
    return replace(run.record, agent=model)


RUNNERS: dict[str, Callable[[Path], AbstractAsyncContextManager[RunnerUnderTest]]] = {
    "agents": agents,
    "peers": peers,
    "scripted": scripted_runner,
}
