"""Limit an LLM's reasoning if its output is bounded: for Anthropic, thinking counts as output and has a minimum. Pure."""

from collections.abc import Mapping
from typing import Final

from openhands.sdk import LLM

_ROOM_FOR_REASONING_TOKENS: Final = 8_192
"""With less output than this, reasoning would use it up."""
EFFORT_TOKENS: Final[Mapping[str, int]] = {
    "minimal": 1_024,
    "low": 1_024,
    "medium": 2_048,
    "high": 4_096,
    "xhigh": 8_192,
    "max": 16_384,
}
"""The maximum of thinking tokens of an effort, as LiteLLM translates it for Claude."""
_MIN_THINKING_TOKENS: Final = 1_024
"""Anthropic refuses a call that allows less, and one whose output limit is not above its thinking limit."""
_ROOM_FOR_ANSWER_TOKENS: Final = 1_024
_MUCH_REASONING: Final = frozenset({"medium", "high", "xhigh", "max"})


def is_claude(llm: LLM) -> bool:
    """Return whether an LLM is Claude, or is called in Anthropic's format, judged by its names."""
    return any("claude" in name or name.startswith("anthropic/") for name in (llm.model.lower(), _canonical_name(llm)))


def bound_reasoning(llm: LLM, bound_tokens: int | None, most_tokens: int) -> dict[str, object]:
    """Return the changed fields of an LLM for a call whose output a budget bounds, or that may write `most_tokens`."""
    if bound_tokens is not None and bound_tokens < min(_ROOM_FOR_REASONING_TOKENS, most_tokens):
        return _reduce_reasoning(llm)
    return fit_reasoning(llm, bound_tokens or most_tokens)


def fit_reasoning(llm: LLM, room_tokens: int) -> dict[str, object]:
    """Return the changed fields of an LLM for a call that may write `room_tokens`, so that Claude's provider accepts it."""
    if not is_claude(llm):
        return {}
    most = room_tokens - _ROOM_FOR_ANSWER_TOKENS
    if most < _MIN_THINKING_TOKENS:
        return _changes(llm, reasoning_effort=None, extended_thinking_budget=None)
    effort, budget = llm.reasoning_effort, llm.extended_thinking_budget
    if effort is not None and EFFORT_TOKENS.get(effort, 0) > most:
        effort = max((name for name, tokens in EFFORT_TOKENS.items() if tokens <= most), key=EFFORT_TOKENS.__getitem__)
    if budget is not None and room_tokens < _ROOM_FOR_REASONING_TOKENS:
        budget = min(budget, most)
    return _changes(llm, reasoning_effort=effort, extended_thinking_budget=budget)


def _reduce_reasoning(llm: LLM) -> dict[str, object]:
    """Return the changed fields of an LLM for a call to which a budget leaves little output."""
    effort = "low" if llm.reasoning_effort in _MUCH_REASONING else llm.reasoning_effort
    return {"reasoning_effort": None if is_claude(llm) else effort, "extended_thinking_budget": None}


def without_thinking(llm: LLM, most_tokens: int) -> dict[str, object]:
    """Return the changed options of a repeated request to Claude that may write less than the first attempt."""
    return {"thinking": None, "reasoning_effort": None, "max_tokens": most_tokens} if is_claude(llm) else {}


def _changes(llm: LLM, **fields: object) -> dict[str, object]:
    return {name: value for name, value in fields.items() if getattr(llm, name) != value}


def _canonical_name(llm: LLM) -> str:
    return (llm.model_canonical_name or "").lower()
