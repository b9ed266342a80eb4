"""The effective limits of a run. The table of limits, with what each is called where, is `delegate_tool.protocol.limits`."""

from dataclasses import dataclass

from delegate_tool.protocol.limits import LimitPolicy, narrow_values


@dataclass(frozen=True, slots=True)
class Limits:
    """The effective limits of one run. Every value has been narrowed by all sources above the run.

    Attributes:
        max_depth: greatest depth allowed in this subtree, inclusive; the root of a tree has depth 0.
        max_breadth: children of one run that are live at once.
        max_runs: descendants allowed in this subtree, in total.
        timeout_s: for this run and its descendants.
        max_turns: LLM calls of this run alone.
        budget_micro_usd: cap on this run and its descendants; None is no cap.
        allowed_agents: model ids that this subtree may call; None is any.
    """

    max_depth: int = 3
    max_breadth: int = 5
    max_runs: int = 50
    timeout_s: float = 1800.0
    max_turns: int = 100
    budget_micro_usd: int | None = 10_000_000
    allowed_agents: frozenset[str] | None = None


def narrow(limits: Limits, policy: LimitPolicy) -> Limits:
    """Return the narrower value of each limit; a policy that leaves a limit open does not change it."""
    return Limits(*narrow_values(limits, policy))
