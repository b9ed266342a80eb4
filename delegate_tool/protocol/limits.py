"""The limits of a run, as a table: how each is named, written, and narrowed. Standard library only.

Every limit is monotone: a run gets the narrowest of what the server, the key, the profile, the runs above it and the request
allow. So combining two sources needs no precedence, only the narrower value of each limit.

A new limit is a row in `LIMITS`, a field of `LimitPolicy` and of the gateway's `Limits`, a setting, a migration for its column,
and the code that enforces it. Headers, bodies, profiles, grants, views and documentation walk the table.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import and_, attrgetter
from typing import Any, Final

from delegate_tool.protocol.fields import Header
from delegate_tool.protocol.values import AGENTS, COUNT, COUNT_FROM_ZERO, MONEY, SECONDS, Codec


@dataclass(frozen=True, slots=True)
class LimitPolicy:
    """The limits that one source asks for or allows: a request, a profile, a key, a grant. None leaves a limit as it is."""

    max_depth: int | None = None
    max_breadth: int | None = None
    max_runs: int | None = None
    timeout_s: float | None = None
    max_turns: int | None = None
    budget_micro_usd: int | None = None
    allowed_agents: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """One row of the table.

    Attributes:
        name: attribute of `LimitPolicy` and of the gateway's `Limits`; the database's column.
        field: name in JSON, YAML and settings, in which money is a decimal amount of USD.
        header: request header.
        claim: name of the claim in a grant.
        codec: how its values are written.
        meaning: what it limits, for the documentation.
        is_always_set: whether every run has a value; otherwise a run may be without this limit.
        narrower: return the narrower of two values.
    """

    name: str
    header: Header
    claim: str
    codec: Codec[Any]
    meaning: str
    field: str
    is_always_set: bool = True
    narrower: Callable[[Any, Any], Any] = min

    def narrow(self, first: Any, second: Any) -> Any:
        """Return the narrower of two values, where None stands for no limit."""
        if first is None or second is None:
            return second if first is None else first
        return self.narrower(first, second)

    def to_json(self, value: Any) -> object:
        """Return a value as JSON."""
        return None if value is None else self.codec.to_json(value)


MAX_DEPTH: Final = Limit(
    name="max_depth",
    field="max_depth",
    header=Header.MAX_DEPTH,
    claim="depth_left",  # the only claim that is relative: counted from the run that the grant is for
    codec=COUNT_FROM_ZERO,
    meaning="greatest depth in this subtree",
)
BUDGET: Final = Limit(
    name="budget_micro_usd",
    field="budget_usd",
    header=Header.BUDGET_USD,
    claim="budget_usd",
    codec=MONEY,
    meaning="what this run and all below it may cost",
    is_always_set=False,
)
ALLOWED_AGENTS: Final = Limit(
    name="allowed_agents",
    field="allowed_agents",
    header=Header.ALLOWED_AGENTS,
    claim="agents",
    codec=AGENTS,
    meaning="what this subtree may call",
    is_always_set=False,
    narrower=and_,
)
LIMITS: Final = (
    MAX_DEPTH,
    Limit(
        name="max_breadth",
        field="max_breadth",
        header=Header.MAX_BREADTH,
        claim="breadth",
        codec=COUNT,
        meaning="live children of one run",
    ),
    Limit(
        name="max_runs",
        field="max_runs",
        header=Header.MAX_RUNS,
        claim="runs",
        codec=COUNT_FROM_ZERO,
        meaning="descendants in all",
    ),
    Limit(
        name="timeout_s",
        field="timeout_s",
        header=Header.TIMEOUT,
        claim="timeout_s",
        codec=SECONDS,
        meaning="for this run and all below it; a duration, so that clocks need not agree",
    ),
    Limit(
        name="max_turns",
        field="max_turns",
        header=Header.MAX_TURNS,
        claim="turns",
        codec=COUNT,
        meaning="LLM calls of this run",
    ),
    BUDGET,
    ALLOWED_AGENTS,
)
"""In the order of the fields of `LimitPolicy` and `Limits`."""

limit_values: Final = attrgetter(*(limit.name for limit in LIMITS))
"""Return the values of all limits of an object that has them as attributes, in the order of the table."""


def limits_of(source: object) -> LimitPolicy:
    """Return the limits that an object has as attributes, and None for those that it lacks."""
    return LimitPolicy(*(getattr(source, limit.name, None) for limit in LIMITS))


def narrower(first: LimitPolicy, second: LimitPolicy) -> LimitPolicy:
    """Return the narrower value of each limit of two sources."""
    return LimitPolicy(*narrow_values(first, second))


def narrow_values(first: object, second: object) -> Iterator[Any]:
    """Yield the narrower value of each limit of two objects, in the order of the table."""
    return (limit.narrow(*values) for limit, *values in zip(LIMITS, limit_values(first), limit_values(second), strict=True))


def render_limits(source: object) -> dict[str, object]:
    """Render the limits of an object that has them as attributes, as JSON by their `field` names."""
    return {limit.field: limit.to_json(value) for limit, value in zip(LIMITS, limit_values(source), strict=True)}
