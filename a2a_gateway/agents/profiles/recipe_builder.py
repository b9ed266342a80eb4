"""Build the recipe of a profile from its parts, for all sources."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from a2a_gateway.agents.llm.configured_llm import LEAST_CONTEXT_TOKENS, ConfiguredLLM
from a2a_gateway.agents.profiles.a2a_block import GatewayBlock
from a2a_gateway.agents.profiles.definition_errors import UNEXPECTED, Document, Fault, definition_error, from_unexpected_error
from a2a_gateway.agents.profiles.llm_resolver import ResolvedLLM
from a2a_gateway.agents.profiles.llm_templates import build_template, condenser_template, usd_per_token
from a2a_gateway.agents.profiles.mcp_definitions import McpDefinitions
from a2a_gateway.agents.profiles.saved_llms import PROFILE_NAME
from a2a_gateway.agents.profiles.tool_names import DEFAULT_TOOLS, DELEGATE
from a2a_gateway.agents.recipe import AgentRecipe, ToolSpec
from a2a_gateway.runs.model import Profile, ProfileProblem, WorkspacePolicy
from a2a_gateway.settings import Settings
from delegate_tool.protocol.limits import LimitPolicy, limits_of, narrower
from delegate_tool.protocol.values import MODEL_PREFIX, SELF

_PLACE: Final = "in the block a2a: of the profile, or in an entry of [[llms]] in gateway.toml"

CONDENSER_MAX_SIZE: Final = 240
"""The number of events above which history is summarised, unless a definition sets another. The SDK's own default."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The result of reading one definition: a recipe, perhaps with warnings, or the problems that prevent one.

    Attributes:
        document: the definition's file, if it has one.
    """

    name: str
    recipe: AgentRecipe | None = None
    problems: tuple[ProfileProblem, ...] = ()
    document: Document | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one profile, as a source has read them.

    Attributes:
        source: the definition's file, or what stands for it, such as the name of an environment variable.
        condenser_max_size: None for no condenser.
    """

    name: str
    source: Path | str
    llm: ResolvedLLM
    description: str = ""
    tools: tuple[ToolSpec, ...] = DEFAULT_TOOLS
    block: GatewayBlock = field(default_factory=GatewayBlock)
    max_turns: int | None = None
    budget_micro_usd: int | None = None
    system_prompt: str | None = None
    persona: str | None = None
    system_suffix: str | None = None
    condenser_max_size: int | None = CONDENSER_MAX_SIZE
    mcp: McpDefinitions = field(default_factory=McpDefinitions)


def build_recipe(parts: Parts, settings: Settings) -> AgentRecipe:
    """Build a recipe.

    Raises:
        DefinitionError: the name is not allowed, or the profile's values are invalid.
    """
    check_name(parts.name)
    try:
        return _build(parts, settings)
    except UNEXPECTED as error:
        raise from_unexpected_error(error) from None


def _build(parts: Parts, settings: Settings) -> AgentRecipe:
    llm = build_template(parts.llm, settings)
    recipe = AgentRecipe(
        profile=_profile(parts, llm),
        llm=llm,
        unpriced_usd_per_token=settings.unpriced_usd_per_token,
        input_usd_per_token=llm.input_cost_per_token,
        output_usd_per_token=llm.output_cost_per_token,
        cached_input_usd_per_token=usd_per_token(parts.llm.fields.cached_input_usd_per_mtok),
        is_local=parts.llm.is_local,
        llm_name=parts.llm.name,
        condenser_llm=None if parts.condenser_max_size is None else condenser_template(llm),
        condenser_max_size=parts.condenser_max_size or CONDENSER_MAX_SIZE,
        system_prompt=parts.system_prompt,
        persona=parts.persona,
        system_suffix=parts.system_suffix,
        tools=parts.tools,
        mcp_config=parts.mcp.servers,
        mcp_secrets=parts.mcp.secrets,
    )
    source = recipe.prices.source
    return replace(recipe, profile=replace(recipe.profile, price_source=source, is_priced=source is not None))


def recipe_warnings(recipe: AgentRecipe, settings: Settings) -> Iterator[Fault]:
    """Yield what will fail or surprise at the first request: an LLM without a price, or with too little context."""
    profile, llm = recipe.profile, recipe.llm
    if not profile.is_priced and profile.has_budget(settings.budget_micro_usd):
        yield Fault(
            f"no price is known for {profile.llm_model}, and with a budget in force its runs are refused: add input_usd_per_mtok "
            f"and output_usd_per_mtok {_PLACE}, or set A2A_UNPRICED_USD_PER_MTOK (0 if it costs nothing) or A2A_BUDGET_USD=none",
            topic="price",
        )
    if llm.model.startswith("ollama_chat/") and "num_ctx" not in llm.parameters:
        yield Fault(
            "Ollama loads a model with a small context, often 4096 tokens, and drops what does not fit without an error: "
            f"set context_length, for example to 32768, {_PLACE}"
        )
    elif profile.context_tokens is not None and profile.context_tokens < LEAST_CONTEXT_TOKENS:
        yield Fault(
            f"a context of {profile.context_tokens} tokens is little: an agent needs {LEAST_CONTEXT_TOKENS}; long tasks will fail"
        )


def check_name(name: str) -> None:
    """Check that a name can be part of a model id, and is not reserved for delegation.

    Raises:
        DefinitionError: it cannot, or is reserved.
    """
    if not PROFILE_NAME.fullmatch(name):
        raise definition_error(
            "the name must be 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit", "name"
        )
    if name == SELF:
        raise definition_error(f"the name {SELF!r} is reserved: in a delegation it means the caller's own profile", "name")


def _profile(parts: Parts, llm: ConfiguredLLM) -> Profile:
    names = tuple(tool.name for tool in parts.tools)
    workspace, path = _workspace(parts)
    return Profile(
        name=parts.name,
        description=parts.description or _description(llm, names),
        source=str(parts.source),
        llm_model=llm.model,
        context_tokens=llm.effective_max_input_tokens,
        max_output_tokens=llm.effective_max_output_tokens,
        vision=llm.vision_is_active(),
        tools=names,
        mcp_servers=tuple(parts.mcp.servers),
        may_delegate=DELEGATE in names,
        policy=_policy(parts),
        workspace=workspace,
        workspace_path=path,
        narration=parts.block.narration,
        caps=parts.block.caps,
    )


def _workspace(parts: Parts) -> tuple[WorkspacePolicy, str | None]:
    try:
        return parts.block.workspace_of(parts.source.parent if isinstance(parts.source, Path) else Path.cwd())
    except (ValueError, RuntimeError):  # a NUL; the home directory of an unknown user
        raise definition_error("workspace is not a valid path of a directory", "a2a", "workspace") from None


def _policy(parts: Parts) -> LimitPolicy:
    return narrower(parts.block.policy(own_model=MODEL_PREFIX + parts.name), limits_of(parts))


def _description(llm: ConfiguredLLM, tools: tuple[str, ...]) -> str:
    return f"OpenHands agent on {llm.model}, {'with ' + ', '.join(tools) if tools else 'without tools'}."
