"""Clients that ask for everything at once, and what the LLM knows of it: the truth that no gateway has a hand in.

Each client has a key of its own and asks for one thing after the other. What its LLM calls cost is known from the LLM: by what it
was asked and what it answered, at the prices of the profiles.
"""

import asyncio
import os
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
from openai import APIError, AsyncOpenAI

from a2a_gateway.testing.script import ChatRequest, Script, Step, Usage, choose_step
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.crash.books import Payer
from tests.support.ask import call, delegation, user

IN_PRICE, OUT_PRICE = 1, 2
"""Micro-USD per token."""
IDEMPOTENCY = "Idempotency-Key"
CONVERSATION = "X-OpenHands-ServerConversation-ID"


def seeded_chance() -> random.Random:
    """Make a source of chance and print its seed; `KILL_SEED` repeats it, as far as the machine's timing allows."""
    seed = int(os.environ.get("KILL_SEED", random.randrange(2**32)))
    print(f"KILL_SEED={seed}")
    return random.Random(seed)


def profile(name: str, tools: str, more: str = "") -> str:
    prices = f"input_usd_per_mtok: {IN_PRICE}.0, output_usd_per_mtok: {OUT_PRICE}.0{more}"
    return f"---\nname: {name}\ndescription: {name}\ntools: [{tools}]\na2a: {{{prices}}}\n---\nAGENT={name}."


PROFILES = {
    "lead": profile("lead", "terminal, delegate"),
    "worker": profile("worker", "terminal, delegate", ", workspace: isolated"),
    "leaf": profile("leaf", "", ", budget_per_day_usd: 50"),
}
LEAD = "openhands_lead"


@dataclass
class Deed:
    """One request of a client, and what came of it.

    Attributes:
        run_id, text, conversation_id: known once the client has its whole answer.
    """

    request: dict[str, Any]
    run_id: str | None = None
    text: str | None = None
    conversation_id: str | None = None

    @property
    def idempotency_key(self) -> str | None:
        return self.request.get("extra_headers", {}).get(IDEMPOTENCY)  # type: ignore[no-any-return]


@dataclass
class Client:
    """Asks until it is stopped.

    Attributes:
        is_rash: it cancels, hangs up, and has little money; only the gateway knows what its broken-off calls cost.
        nap: argument of the `sleep` by which the processes of its agents are found.
        finished: conversations that can be continued: id and the deed that began each.
    """

    name: str
    api: AsyncOpenAI
    chance: random.Random
    is_rash: bool
    nap: str
    deeds: list[Deed] = field(default_factory=list)
    finished: list[Deed] = field(default_factory=list)

    async def work(self) -> None:
        calm = [self.ask, self.stream, self.delegate, self.use_terminal, self.go_on, self.ask_once]
        rash = [self.cancel, self.hang_up, self.be_poor, self.cancel_command]
        number = 0
        while True:
            number += 1
            act: Callable[[str], Awaitable[None]] = self.chance.choice(rash if self.is_rash else calm)
            try:
                await act(f"@{self.name} task {number}-{self.chance.randrange(10**9)}.")
            except (APIError, httpx.HTTPError):
                await asyncio.sleep(0.01)  # the gateway refuses, or is gone; in either case not to be asked a thousand times

    def step(self, *calls: Any, **more: Any) -> Step:
        words, chance = " ".join(["word"] * self.chance.randint(1, 12)), self.chance
        usage = Usage(chance.randint(50, 900), chance.randint(1, 40))
        return Step(
            words, tool_calls=calls, usage=usage, ttft_ms=chance.choice((0, 0, 20)), token_ms=chance.choice((0, 2, 5)), **more
        )

    def chain(self, task: str) -> tuple[Step, ...]:
        """Script a lead that asks two workers at once, each of which asks a leaf."""

        def below(number: int) -> Any:
            asks_leaf = self.step(delegation("openhands_leaf", f"{task} Leaf {number}.", self.step()))
            return delegation("openhands_worker", f"{task} Worker {number}.", asks_leaf, self.step())

        return self.step(*[below(number) for number in range(self.chance.randint(1, 2))]), self.step()

    async def whole(self, *messages: Any, headers: dict[str, str] | None = None) -> Deed:
        deed = Deed({"model": LEAD, "messages": list(messages), "extra_headers": headers or {}})
        self.deeds.append(deed)
        response = await self.api.chat.completions.with_raw_response.create(**deed.request)
        answer = response.parse()
        deed.conversation_id = response.headers[CONVERSATION.lower()]
        deed.run_id, deed.text = answer.id.removeprefix("chatcmpl-"), answer.choices[0].message.content or ""
        return deed

    async def ask(self, task: str) -> None:
        await self.whole(user(task, self.step()))

    async def delegate(self, task: str) -> None:
        await self.whole(user(task, *self.chain(task)))

    async def ask_once(self, task: str) -> None:
        steps = self.chance.choice([(self.step(),), self.chain(task)])
        await self.whole(user(task, *steps), headers={IDEMPOTENCY: task})

    async def stream(self, task: str) -> None:
        chunks: Any = await self.api.chat.completions.create(model=LEAD, messages=[user(task, *self.chain(task))], stream=True)
        async for _ in chunks:
            pass

    async def use_terminal(self, task: str) -> None:
        command = self.chance.choice(
            [
                "echo hello > file",
                f"setsid sleep {self.nap} & echo left",
                f"(setsid nohup env -i sleep {self.nap} >/dev/null 2>&1 &)",
            ]
        )
        await self.whole(user(task, self.step(call("terminal", command=command)), self.step()))

    async def go_on(self, task: str) -> None:
        if self.finished and self.chance.random() < 0.5:
            begun = self.chance.choice(self.finished)
            await self.whole(user(task, self.step()), headers={CONVERSATION: str(begun.conversation_id)})
        else:
            self.finished.append(await self.whole(user(task, self.step(call("terminal", command="date > file")), self.step())))

    async def cancel(self, task: str) -> None:
        stream = await self.api.chat.completions.with_raw_response.create(
            model=LEAD, messages=[user(task, *self.chain(task))], stream=True
        )
        await asyncio.sleep(self.chance.uniform(0, 0.1))  # chance chooses how far it comes
        await self.api.post(f"/runs/{stream.headers['x-a2a-run-id']}/cancel", cast_to=object)
        await stream.parse().close()

    async def hang_up(self, task: str) -> None:
        await self.for_a_while(self.whole(user(task, *self.chain(task))), 0.2)

    async def be_poor(self, task: str) -> None:
        dollars = f"{self.chance.uniform(0.0005, 0.02):.6f}"
        await self.whole(user(task, *self.chain(task)), headers={"X-A2A-Budget-USD": dollars})

    async def cancel_command(self, task: str) -> None:
        naps = self.step(call("terminal", command=f"sleep {self.nap}"))
        await self.for_a_while(self.whole(user(task, naps, self.step()), headers={IDEMPOTENCY: task}), 0.3)

    async def for_a_while(self, work: Awaitable[object], longest_s: float) -> None:
        """Do something, and leave off after a time that chance chooses."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.chance.uniform(0, longest_s)):
                await work


@dataclass(frozen=True)
class Truth:
    """What the LLM's calls cost, payer by payer.

    Attributes:
        answered: of the calls that were answered to the end.
        most: of all calls, if each of those that broke off had used all that it might.
        calls: how many there were.
    """

    answered: Counter[Payer]
    most: Counter[Payer]
    calls: Counter[Payer]

    @classmethod
    def of(cls, llm: ScriptedLLM, first: int) -> "Truth":
        """Read what the LLM has seen from its request number `first` on."""
        answered, most, calls = Counter[Payer](), Counter[Payer](), Counter[Payer]()
        disconnected = llm.traffic.disconnected_requests
        for request in llm.traffic.requests:
            if request.number < first:
                continue
            payer = payer_of(request)
            calls[payer] += 1
            cost = cost_of(request)
            if request.number not in disconnected:
                answered[payer] += cost
            most[payer] += max(cost, most_of(request))
        return cls(answered, most, calls)


def payer_of(request: ChatRequest) -> Payer:
    client = re.findall(r"@(\w+) task", str([m for m in request.messages if m.get("role") == "user"]))[-1]
    agent = re.findall(r"AGENT=(\w+)\.", request.system_text)[-1]
    return client, f"openhands_{agent}"


def cost_of(request: ChatRequest) -> int:
    usage = choose_step(request, Script((Step("ok"),))).usage
    assert isinstance(usage, Usage)
    return usage.prompt_tokens * IN_PRICE + usage.completion_tokens * OUT_PRICE


def most_of(request: ChatRequest) -> int:
    """Return the most that a call can cost: no token is shorter than a byte, no answer longer than allowed."""
    return request.size_bytes * IN_PRICE + int(request.body["max_completion_tokens"]) * OUT_PRICE


def clients_of(keys: Sequence[tuple[str, str]], url: str, chance: random.Random, nap: str) -> list[Client]:
    """Make a client for each key (name and secret); those whose names begin with `rash` are."""
    return [
        Client(
            name,
            AsyncOpenAI(base_url=f"{url}/v1", api_key=secret, max_retries=0, timeout=60),
            random.Random(chance.random()),
            is_rash=name.startswith("rash"),
            nap=nap,
        )
        for name, secret in keys
    ]
