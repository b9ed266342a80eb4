"""The recipe of an SDK agent: the resolved form of a profile. The catalogue builds it, the runner uses it.

Only `agents` uses recipes. The core receives the `Profile` of a recipe.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from openhands.sdk.mcp import MCPServer
from pydantic import SecretStr

from a2a_gateway.agents.llm.configured_llm import ConfiguredLLM
from a2a_gateway.agents.llm.credentials import llm_secrets
from a2a_gateway.agents.llm.pricing import Prices
from a2a_gateway.runs.model import Profile


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool by its public name (`terminal`, `file_editor`, …) and the parameters that the profile gives it."""

    name: str
    params: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AgentRecipe:
    """Everything that an SDK agent needs and that is the same in every run. Fields that may contain credentials have no `repr`.

    Attributes:
        llm: template; each run uses a copy, because an LLM object has metrics of its own.
        input_usd_per_token: the profile's own price, which has precedence over LiteLLM's map; None if it sets no price.
        is_local: whether the LLM's server is the user's own, so that it is free unless a price is known.
        llm_name: see `ResolvedLLM.name`.
        condenser_llm: template for the condenser's LLM; None if there is no condenser.
        condenser_max_size: number of events above which history is summarised.
        system_prompt: replaces OpenHands' system prompt verbatim; None keeps it.
        persona: replaces only OpenHands' persona and workflow guidance in its system prompt; None keeps them.
        system_suffix: appended to the system prompt.
        unpriced_usd_per_token: the price at which tokens of unknown price count against budgets; None if they do not count.
        mcp_config: the MCP servers to start, with all values in place of variables.
        mcp_secrets: the credentials among these values.
        tools: explicit list, including the delegation tool (`delegate`), without the finish and think tools.
    """

    profile: Profile
    llm: ConfiguredLLM = field(repr=False)
    input_usd_per_token: float | None = None
    output_usd_per_token: float | None = None
    cached_input_usd_per_token: float | None = None
    condenser_llm: ConfiguredLLM | None = field(default=None, repr=False)
    condenser_max_size: int = 240
    system_prompt: str | None = None
    persona: str | None = None
    system_suffix: str | None = None
    tools: tuple[ToolSpec, ...] = ()
    mcp_config: Mapping[str, MCPServer] = field(default_factory=dict, repr=False)
    mcp_secrets: tuple[SecretStr, ...] = ()
    unpriced_usd_per_token: Decimal | None = None
    is_local: bool = False
    llm_name: str | None = None

    @property
    def secrets(self) -> list[str]:
        """The credentials of the LLMs and of the MCP servers."""
        return [*llm_secrets(self.llm, self.condenser_llm), *(secret.get_secret_value() for secret in self.mcp_secrets)]

    @property
    def prices(self) -> Prices:
        """The prices of the LLM."""
        return Prices(
            self.llm.model,
            self.input_usd_per_token,
            self.output_usd_per_token,
            self.unpriced_usd_per_token,
            self.cached_input_usd_per_token,
            self.is_local,
        )
