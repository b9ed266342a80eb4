"""Call an LLM once, as an agent would: streamed, with a tool, with the same credentials. For `a2a-gateway llms check`."""

import asyncio
import errno
import math
import socket
import ssl
import time
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Literal

import aiohttp
import httpx
from openhands.sdk.llm import LLM, Message, TextContent
from openhands.sdk.llm.exceptions import LLMTimeoutError
from openhands.sdk.tool.builtins.finish import FinishTool

from a2a_gateway.agents.assembly import REQUIRED_PATCHES
from a2a_gateway.agents.llm.credentials import llm_secrets
from a2a_gateway.agents.llm.deltas import Piece
from a2a_gateway.agents.llm.error_translation import causes_of, failure_of, is_quota_used_up
from a2a_gateway.agents.llm.metered_llm import MeteredLLM, build_metered_llm
from a2a_gateway.agents.llm.prompt_size import Prompt
from a2a_gateway.agents.llm.reasoning import bound_reasoning
from a2a_gateway.agents.llm.run_account import RunAccount
from a2a_gateway.agents.llm.tool_schemas import ToolSchemas
from a2a_gateway.agents.recipe import AgentRecipe
from a2a_gateway.agents.sdk_patches.patching import require
from a2a_gateway.agents.warmup import FreeMeter, serve_warm_up_llm, warm_up_recipe
from a2a_gateway.errors import GatewayError, LLMUnavailable
from a2a_gateway.runs.events import TurnFinished
from a2a_gateway.runs.model import TokenUsage
from delegate_tool.masking import Secrets

MAX_OUTPUT_TOKENS: Final = 256
"""Little, but enough for an LLM that reasons before it answers."""
_TASK: Final = "Answer with the word ok."
_USUAL_EFFORT_TOKENS: Final = 10**6

type Cause = Literal["tls", "unknown_host", "refused", "timeout", "quota", "tools"]
"""What is known of a failure beyond its code."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one call.

    Attributes:
        answer: the text; empty if the LLM only reasoned.
        cost_usd: None if it is not known.
        failure: None if the LLM answered.
        cause: see `Cause`; None if the code of the failure is enough.
    """

    latency_s: float
    answer: str = ""
    usage: TokenUsage = field(default_factory=TokenUsage)
    cost_usd: Decimal | None = None
    failure: GatewayError | None = None
    cause: Cause | None = None


class _Unobserved:
    """A turn's observer, without which nothing is streamed."""

    def begin_turn(self) -> None:
        """Ignore it."""

    def add(self, piece: Piece) -> None:
        """Ignore it."""

    def end_turn(self, message: Message) -> None:
        """Ignore it."""

    def abort_turn(self) -> None:
        """Ignore it."""


async def check_llms(recipes: list[AgentRecipe], timeout_s: float) -> list[CheckResult]:
    """Call each LLM once, all at the same time."""
    with require(REQUIRED_PATCHES):
        async with serve_warm_up_llm() as url:  # the first call of a process imports modules, for which no LLM is to blame
            for recipe in recipes[:1]:
                await _check(warm_up_recipe(recipe, url), timeout_s)
        return await asyncio.gather(*(_check(recipe, timeout_s) for recipe in recipes))


def most_usd(recipe: AgentRecipe) -> Decimal | None:
    """Return what a check may cost at most; None if no price is known."""
    prompt = Prompt.of(_messages(), FinishTool.create(), ToolSchemas())
    quote = recipe.prices.quote(prompt.most_tokens(), MAX_OUTPUT_TOKENS)
    if quote.usd_per_prompt_token is None or quote.usd_per_output_token is None:
        return None
    return quote.prompt_tokens * quote.usd_per_prompt_token + quote.max_output_tokens * quote.usd_per_output_token


async def _check(recipe: AgentRecipe, timeout_s: float) -> CheckResult:
    turns: list[TurnFinished] = []
    llm = _llm(recipe, RunAccount(FreeMeter(), max_turns=1, emit=turns.append), timeout_s)
    started = time.monotonic()
    try:
        async with asyncio.timeout(timeout_s):
            response = await llm.agenerate(_messages(), FinishTool.create())
    except TimeoutError as error:
        failure = LLMUnavailable(f"There was no answer within {timeout_s:g} s.")
        return CheckResult(time.monotonic() - started, failure=failure, cause=_cause_of(error))
    except Exception as error:  # noqa: BLE001  # whatever the SDK raises is the result of the check
        if not llm.answer_was_cut_off:
            return _failure_result(error, recipe, time.monotonic() - started)
        answer = ""
    else:
        answer = _answer_of(response.message)
    [turn] = turns
    cost_usd = None if turn.cost_micro_usd is None else Decimal(turn.cost_micro_usd) / 10**6
    return CheckResult(time.monotonic() - started, answer, turn.usage, cost_usd)


def _llm(recipe: AgentRecipe, account: RunAccount, timeout_s: float) -> MeteredLLM:
    template: LLM = recipe.llm
    most = min(MAX_OUTPUT_TOKENS, template.effective_max_output_tokens or MAX_OUTPUT_TOKENS)
    changes: dict[str, Any] = {
        "max_output_tokens": most,
        "timeout": math.ceil(timeout_s),
        "stream_idle_timeout": timeout_s,
        **bound_reasoning(template, most, _USUAL_EFFORT_TOKENS),
    }
    return build_metered_llm(template, account, recipe.prices, observer=_Unobserved(), retries_first_call=False, **changes)


def _messages() -> list[Message]:
    return [Message(role="user", content=[TextContent(text=_TASK)])]


def _answer_of(message: Message) -> str:
    texts = [part.text for part in message.content if isinstance(part, TextContent)]
    return " ".join([*texts, *(f"{call.name}({call.arguments})" for call in message.tool_calls or ())]).strip()


def _failure_result(error: Exception, recipe: AgentRecipe, latency_s: float) -> CheckResult:
    failure = failure_of(error, Secrets.of(llm_secrets(recipe.llm)))
    return CheckResult(latency_s, failure=failure, cause=_cause_of(error))


def _cause_of(error: BaseException) -> Cause | None:
    for link in causes_of(error):
        match link:
            case ssl.SSLError() | aiohttp.ClientSSLError():
                return "tls"
            case socket.gaierror() | aiohttp.ClientConnectorDNSError():
                return "unknown_host"
            case OSError(errno=errno.ECONNREFUSED):
                return "refused"
            case TimeoutError() | httpx.TimeoutException() | LLMTimeoutError():
                return "timeout"
            case _ if "--enable-auto-tool-choice" in str(link) or "does not support tools" in str(link):
                return "tools"
    return "quota" if is_quota_used_up(error) else None
