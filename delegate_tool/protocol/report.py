"""Read what an endpoint reports about a run: response headers, and the `usage` object. Standard library only.

Nothing of it is trusted. Plain OpenAI endpoints send neither, so a missing or malformed value is unknown, never an error or zero.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeGuard

from delegate_tool.protocol.fields import CostField, DelegationField, Header, UsageField
from delegate_tool.protocol.money import MAX_USD, micro_usd_from_float, parse_usd
from delegate_tool.protocol.result import CallerLeft, Tokens

_MAX_TEXT: Final = 256
_MAX_COUNT: Final = 10**9
"""The largest count that is accepted, so that every ledger can store it; `_MAX_TOKENS` is for the tokens of a whole tree."""
_MAX_TOKENS: Final = 10**12
_MOST_USD: Final = int(MAX_USD)
_NOTHING: Final[Mapping[str, object]] = {}


@dataclass(frozen=True, slots=True)
class RunReport:
    """What is known of the run behind a response; see `DelegationResult` for the meaning of the fields."""

    run_id: str | None = None
    tree_id: str | None = None
    conversation_id: str | None = None
    depth: int | None = None
    cost_micro_usd: int | None = None
    cost_complete: bool = False
    cost_final: bool = False
    turns: int | None = None
    runs: int = 1
    tokens: Tokens = field(default_factory=Tokens)
    tree_tokens: Tokens = field(default_factory=Tokens)
    stop_reason: str | None = None
    left: CallerLeft | None = None


def read_report(
    headers: Mapping[str, str], usage: Mapping[str, object], error_details: Mapping[str, object] = _NOTHING
) -> RunReport:
    """Combine response headers, usage and an error into a report. Usage wins, because it is sent last.

    Args:
        headers: names are looked up in lower case.
        usage: the JSON object, empty if it was not sent.
    """
    delegation, details = _object(usage, UsageField.DELEGATION), _object(usage, UsageField.COST_DETAILS)
    cost = _cost(headers, usage, details)
    if cost is None and (cost := _money(_text(error_details, "cost_usd"))) is not None:
        details = {CostField.COMPLETE: error_details.get("cost_complete") is True}
    complete = cost is not None and _is_complete(headers, details)
    tokens = _tokens(usage)
    return RunReport(
        run_id=_text(delegation, DelegationField.RUN_ID) or _header(headers, Header.RUN_ID),
        tree_id=_text(delegation, DelegationField.TREE_ID) or _header(headers, Header.TREE_ID),
        conversation_id=_header(headers, Header.CONVERSATION_ID),
        depth=_count(delegation, DelegationField.DEPTH, _count_in(_header(headers, Header.DEPTH))),
        cost_micro_usd=cost,
        cost_complete=complete,
        cost_final=complete or details.get(CostField.PENDING) is False,
        turns=_count(delegation, DelegationField.TURNS, None),
        runs=max(1, _count(delegation, DelegationField.RUNS, None) or 1),
        tokens=tokens,
        tree_tokens=_tree_tokens(delegation) or tokens,
        stop_reason=_text(delegation, DelegationField.STOP_REASON) or _header(headers, Header.STOP_REASON),
        left=read_left(delegation),
    )


def read_left(reported: Mapping[str, object], *, by_refusal: bool = False) -> CallerLeft | None:
    """Read what is left to the caller from `usage.delegation` or from the details of an error; None if it is not in them.

    Args:
        by_refusal: the run was refused, so its details describe what the caller has left.
    """
    parent = _object(reported, DelegationField.PARENT)
    if parent:
        return CallerLeft(_count(parent, DelegationField.RUNS_LEFT, None), _money(_text(parent, DelegationField.REMAINING)))
    if by_refusal and "runs_left" in reported:
        return CallerLeft(_count(reported, "runs_left", None), _money(_text(reported, "budget_remaining_usd")))
    return None


def read_run(value: object) -> RunReport | None:
    """Read the JSON object of one run (`GET /v1/runs/{id}`); None if it is malformed."""
    run = value if isinstance(value, Mapping) else _NOTHING
    cost, tokens = _object(run, "cost"), _object(run, "tokens")
    spent = _money(_text(cost, "tree"))
    if spent is None:
        return None
    own = Tokens(_tokens_in(tokens, "prompt") or 0, _tokens_in(tokens, "completion") or 0)
    return RunReport(
        run_id=_text(run, "id"),
        cost_micro_usd=spent,
        cost_complete=cost.get("complete") is True,
        cost_final=cost.get("complete") is True or cost.get("pending") is False,
        turns=_count(run, "turns", None),
        runs=1 + (_count(run, "descendants", None) or 0),
        tokens=own,
        tree_tokens=_tree_tokens(run) or own,
    )


@dataclass(frozen=True, slots=True)
class FoundRun:
    """Whether an endpoint knows a run, and what it reports about it."""

    is_known: bool
    is_live: bool = False
    report: RunReport | None = None


def read_run_list(value: object) -> FoundRun | None:
    """Read a list of at most one run (`GET /v1/runs?idempotency_key=…`); None if it is malformed."""
    data = value.get("data") if isinstance(value, Mapping) else None
    if not isinstance(data, list):
        return None
    return read_known_run(data[0]) if data else FoundRun(is_known=False)


def read_known_run(value: object) -> FoundRun:
    """Read the JSON object of a run that an endpoint knows (`GET /v1/runs/{id}`)."""
    run = value if isinstance(value, Mapping) else _NOTHING
    return FoundRun(is_known=True, is_live=run.get("state") in ("queued", "running"), report=read_run(run))


def _cost(headers: Mapping[str, str], usage: Mapping[str, object], details: Mapping[str, object]) -> int | None:
    exact = [_money(_text(details, part)) for part in (CostField.SELF, CostField.DESCENDANTS)]
    if exact[0] is not None and exact[1] is not None:
        return exact[0] + exact[1]
    if (reported := _money_of_number(_reported_usd(usage, details))) is not None:
        return reported
    in_header = _money(_header(headers, Header.COST_USD))
    return in_header if in_header is not None else _money_of_float(_header(headers, Header.LITELLM_COST))


def _reported_usd(usage: Mapping[str, object], details: Mapping[str, object]) -> object:
    """Return `usage.cost`, with what the provider behind OpenRouter charges directly.

    For a call with the user's own key at that provider (`is_byok`), OpenRouter's `cost` is only its fee, often 0, and no price by
    itself. For any other call `upstream_inference_cost` is a part of `cost`.
    """
    cost, upstream, is_byok = usage.get(UsageField.COST), _upstream_usd(details), usage.get("is_byok")
    if upstream is None:
        return None if is_byok is True else cost
    if not (_is_amount(cost) or cost is None):
        return cost
    if is_byok is True:
        return min(cost or 0, _MOST_USD) + min(upstream, _MOST_USD)
    return cost if cost or is_byok is False else upstream


def _upstream_usd(details: Mapping[str, object]) -> float | None:
    """Read what the provider charged, which may be split into prompt and completion; None if it is not reported."""
    total = details.get("upstream_inference_cost")
    if _is_amount(total):
        return total
    prompt, completion = details.get("upstream_inference_prompt_cost"), details.get("upstream_inference_completions_cost")
    return min(prompt, _MOST_USD) + min(completion, _MOST_USD) if _is_amount(prompt) and _is_amount(completion) else None


def _is_complete(headers: Mapping[str, str], details: Mapping[str, object]) -> bool:
    stated = details.get(CostField.COMPLETE)
    return stated if isinstance(stated, bool) else _header(headers, Header.COST_COMPLETE) != "false"


def _tokens(usage: Mapping[str, object]) -> Tokens:
    details, completion_details = _object(usage, "prompt_tokens_details"), _object(usage, "completion_tokens_details")
    prompt, completion = _tokens_in(usage, "prompt_tokens") or 0, _tokens_in(usage, "completion_tokens") or 0
    # xAI and Gemini count reasoning in the total only, not in the completion. It is output, and charged as such.
    completion = max(completion, (_tokens_in(usage, "total_tokens") or 0) - prompt)
    cached = _tokens_in(details, "cached_tokens") or _tokens_in(usage, "prompt_cache_hit_tokens") or 0  # the latter is DeepSeek's
    reasoning = _tokens_in(completion_details, "reasoning_tokens") or 0
    return Tokens(prompt, completion, min(cached, prompt), min(reasoning, completion))


def _tree_tokens(delegation: Mapping[str, object]) -> Tokens | None:
    tree = _object(delegation, DelegationField.TREE_TOKENS)
    prompt, completion = _tokens_in(tree, "prompt"), _tokens_in(tree, "completion")
    return None if prompt is None or completion is None else Tokens(prompt, completion)


def _object(values: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = values.get(name)
    return value if isinstance(value, Mapping) else _NOTHING


def _header(headers: Mapping[str, str], header: Header) -> str | None:
    return _text(headers, header.lower())


def _text(values: Mapping[str, object] | Mapping[str, str], name: str) -> str | None:
    # Ids, amounts and reasons. Text with other characters cannot be stored in every database or sent on in a header.
    value = values.get(name)
    return value[:_MAX_TEXT] if isinstance(value, str) and value and value.isascii() and value.isprintable() else None


def _count(values: Mapping[str, object], name: str, default: int | None, most: int = _MAX_COUNT) -> int | None:
    value = values.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most else default


def _tokens_in(values: Mapping[str, object], name: str) -> int | None:
    return _count(values, name, None, _MAX_TOKENS)


def _count_in(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else None


def _money(text: str | None) -> int | None:
    try:
        return None if text is None else parse_usd(text)
    except ValueError:
        return None


def _money_of_float(text: str | None) -> int | None:
    try:
        return None if text is None else _money_of_number(float(text))
    except ValueError:
        return None


def _is_amount(usd: object) -> TypeGuard[int | float]:
    return isinstance(usd, int | float) and not isinstance(usd, bool) and 0 <= usd < math.inf


def _money_of_number(usd: object) -> int | None:
    if not _is_amount(usd):
        return None
    return micro_usd_from_float(float(min(usd, MAX_USD)))
