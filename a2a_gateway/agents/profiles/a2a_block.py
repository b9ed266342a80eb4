"""Parse the `a2a:` block of a markdown definition: the gateway's settings, for which OpenHands' format has no fields."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, StrictInt, create_model

from a2a_gateway.llm_settings import Count, LLMFields
from a2a_gateway.runs.model import MODEL_PREFIX, SpendCaps, WorkspacePolicy
from delegate_tool.protocol.context import Narration
from delegate_tool.protocol.limits import LIMITS, LimitPolicy, limits_of
from delegate_tool.protocol.money import parse_usd
from delegate_tool.protocol.values import AGENTS, COUNT, COUNT_FROM_ZERO, MONEY, SECONDS, Codec

_MOST: Final = 10**9


def _parse_budget(value: object) -> int:
    # YAML parses 0.10 as a float; its shortest form is the text that was written.
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("must be an amount of USD such as 0.50")
    return parse_usd(value if isinstance(value, str) else format(Decimal(repr(value)), "f"))


def _parse_model_id(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be the name of an agent")
    name = value.strip()
    return name if name.startswith(MODEL_PREFIX) or "/" in name or name == "self" else MODEL_PREFIX + name


type CountFromZero = Annotated[StrictInt, Field(ge=0, le=_MOST)]
type MicroUsd = Annotated[int, BeforeValidator(_parse_budget)]
type Seconds = Annotated[float, Field(strict=True, gt=0, le=_MOST, allow_inf_nan=False)]
type ModelId = Annotated[str, BeforeValidator(_parse_model_id)]


class GatewayBlock(LLMFields):
    """The validated block; `parse_block` adds an attribute for each limit of the table, by its `name`.

    The fields of the LLM overrule those of the LLM that the definition names.

    Attributes:
        prompt: whether the definition's body is appended to OpenHands' own system prompt, or replaces it.
        workspace: `inherit`, `isolated`, or a directory, relative to the definition's own.
    """

    total_micro_usd: MicroUsd | None = Field(default=None, alias="budget_total_usd")
    day_micro_usd: MicroUsd | None = Field(default=None, alias="budget_per_day_usd")
    month_micro_usd: MicroUsd | None = Field(default=None, alias="budget_per_month_usd")
    workspace: Annotated[str, Field(min_length=1)] = WorkspacePolicy.INHERIT.value
    narration: Narration = Narration.LIVE
    prompt: Literal["append", "replace"] = "append"

    @property
    def caps(self) -> SpendCaps:
        """The caps on the cost of all runs of the profile together, without the runs to which they delegate."""
        return SpendCaps(self.total_micro_usd, self.day_micro_usd, self.month_micro_usd)

    def policy(self, *, own_model: str) -> LimitPolicy:
        """Return the limits of the block; `self` among the allowed agents is the profile's own model."""
        limits = limits_of(self)
        if limits.allowed_agents is None:
            return limits
        agents = frozenset(own_model if name == "self" else name for name in limits.allowed_agents)
        return replace(limits, allowed_agents=agents)

    def llm_fields(self, directory: Path) -> LLMFields:
        """Return the fields of the LLM; a relative `api_key_file` is in `directory`, the definition's own."""
        file = self.api_key_file
        return self if file is None else self.model_copy(update={"api_key_file": directory / file})

    def workspace_of(self, directory: Path) -> tuple[WorkspacePolicy, str | None]:
        """Return the policy, and the directory if it is fixed; `directory` is the definition's own."""
        match self.workspace:
            case WorkspacePolicy.INHERIT | WorkspacePolicy.ISOLATED:
                return WorkspacePolicy(self.workspace), None
            case path:
                return WorkspacePolicy.FIXED, str((directory / Path(path).expanduser()).resolve())


_LIMIT_TYPES: Final[Mapping[Codec[Any], Any]] = {
    COUNT: Count,
    COUNT_FROM_ZERO: CountFromZero,
    SECONDS: Seconds,
    MONEY: MicroUsd,
    AGENTS: frozenset[ModelId],
}
_LIMIT_FIELDS: Final[dict[str, Any]] = {
    limit.name: (_LIMIT_TYPES[limit.codec] | None, Field(default=None, alias=limit.field)) for limit in LIMITS
}
_BLOCK: Final = create_model("GatewayBlock", __base__=GatewayBlock, **_LIMIT_FIELDS)
GATEWAY_SETTINGS: Final = frozenset(item.alias or name for name, item in _BLOCK.model_fields.items())
"""The settings that a block may contain."""


def parse_block(values: object) -> GatewayBlock:
    """Parse the values of a block.

    Raises:
        ValidationError: a name is unknown, or a value is not valid.
    """
    return _BLOCK.model_validate(values)
