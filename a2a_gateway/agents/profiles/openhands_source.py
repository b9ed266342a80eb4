"""Read the profiles that OpenHands has saved (Agent Profiles, LLM profiles), and the default agents of the other LLMs.

The SDK's own launch pipeline resolves an Agent Profile. Only the settings of the result are used, because the gateway decides
about tools, skills and context. The pipeline gets no skills and MCP servers of the user: both run programs with this process's
rights, and the agents here serve other people too.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from openhands.sdk.launch import AgentLaunchError, LaunchStoreError, LaunchStores, UnresolvedProfileReferences, resolve
from openhands.sdk.profiles.agent_profile import ACPAgentProfile, OpenHandsAgentProfile, validate_agent_profile
from openhands.sdk.settings.model import OpenHandsAgentSettings
from pydantic import ValidationError

from a2a_gateway.agents.profiles.definition_errors import (
    UNEXPECTED,
    DefinitionError,
    Document,
    Fault,
    definition_error,
    from_syntax_error,
    from_unexpected_error,
    from_validation_error,
    move_faults,
    read_text,
)
from a2a_gateway.agents.profiles.llm_resolver import LLMResolver, ResolvedLLM
from a2a_gateway.agents.profiles.recipe_builder import Entry, Parts, build_recipe, recipe_warnings
from a2a_gateway.agents.profiles.tool_names import DEFAULT_TOOLS, parse_tools
from a2a_gateway.agents.recipe import AgentRecipe
from a2a_gateway.settings import Settings

DEFAULT_NAME: Final = "default"


@dataclass(frozen=True, slots=True)
class SavedSource:
    """Reads OpenHands' saved profiles, with one snapshot of the LLM profiles."""

    llms: LLMResolver
    settings: Settings
    llms_dir: Path

    def read_agent_profile(self, path: Path) -> Entry:
        """Read one Agent Profile. The file has its name, as for OpenHands."""
        document = Document(path, "")
        try:
            document = Document(path, read_text(path))
            recipe = self._agent_recipe(document)
            return Entry(path.stem, recipe, document.warnings(recipe_warnings(recipe, self.settings)), document)
        except DefinitionError as error:
            return Entry(path.stem, problems=document.problems(error))

    def read_llm_profiles(self) -> Iterator[Entry]:
        """Yield the default agent with each saved LLM."""
        for name in self.llms.saved.found:
            path = self.llms_dir / f"{name}.json"
            document = self._document(path)
            try:
                recipe = build_recipe(Parts(name, path, self.llms.of_saved(name, self.llms.saved.load(name))), self.settings)
                yield Entry(name, recipe, document.warnings(recipe_warnings(recipe, self.settings)))
            except DefinitionError as error:
                yield Entry(name, problems=document.problems(self._cause(name) or error))

    def read_entries(self) -> Iterator[Entry]:
        """Yield the default agent with each LLM of `[[llms]]`."""
        for name, llm in self.llms.entries.items():
            yield self._default_agent(name, _source_of(name), partial(self.llms.of_entry, llm))

    def read_default(self) -> Iterator[Entry]:
        """Yield the default agent with the default LLM, if there is one."""
        if self.llms.environment.model is not None:
            yield self._default_agent(DEFAULT_NAME, "LLM_MODEL", self.llms.of_default)
        elif self.llms.entries:
            yield self._default_agent(DEFAULT_NAME, _source_of(next(iter(self.llms.entries))), self.llms.of_default)

    def _default_agent(self, name: str, source: str, resolve_llm: Callable[[], ResolvedLLM]) -> Entry:
        document = Document(Path(source), "")
        try:
            recipe = build_recipe(Parts(name, source, resolve_llm()), self.settings)
        except DefinitionError as error:
            return Entry(name, problems=document.problems(error))
        return Entry(name, recipe, document.warnings(recipe_warnings(recipe, self.settings)))

    def _agent_recipe(self, document: Document) -> AgentRecipe:
        profile = _agent_profile(document.text)
        settings = self._resolve(profile)
        llm = self.llms.of_saved(profile.llm_profile_ref, settings.llm)
        condenser = settings.condenser
        has_condenser = condenser.enabled and condenser.condenser_kind == "llm_summarizing"
        specs = None if profile.tools is None else [(tool.name, tool.params) for tool in profile.tools]
        return build_recipe(
            Parts(
                name=document.path.stem,
                source=document.path,
                llm=llm,
                tools=DEFAULT_TOOLS if specs is None else parse_tools(specs, "tools"),
                persona=settings.persona,
                system_suffix=settings.agent_context.system_message_suffix,
                condenser_max_size=condenser.max_size if has_condenser else None,
            ),
            self.settings,
        )

    def _resolve(self, profile: OpenHandsAgentProfile) -> OpenHandsAgentSettings:
        # Without MCP servers, "all of the user's" means no server, and a name of one is an error.
        stores = LaunchStores(llm_profiles=self.llms.saved, mcp_config={}, skills=list)
        try:
            settings = resolve(profile, stores).settings
        except DefinitionError as error:
            raise move_faults(error, "llm_profile_ref") from None
        except UnresolvedProfileReferences as error:
            raise DefinitionError(*_dangling_references(error)) from None
        except (AgentLaunchError, LaunchStoreError) as error:
            raise definition_error(str(error)) from None
        if not isinstance(settings, OpenHandsAgentSettings):
            raise definition_error("is not an OpenHands agent", "agent_kind")
        return settings

    def _cause(self, name: str) -> DefinitionError | None:
        found = self.llms.saved.found[name]
        return found if isinstance(found, DefinitionError) else None

    def _document(self, path: Path) -> Document:
        try:
            return Document(path, read_text(path))
        except DefinitionError:
            return Document(path, "")


def _source_of(entry: str) -> str:
    return f"gateway.toml [[llms]] {entry}"


def _agent_profile(text: str) -> OpenHandsAgentProfile:
    try:
        profile = validate_agent_profile(json.loads(text))
    except json.JSONDecodeError as error:
        raise from_syntax_error(error) from None
    except ValidationError as error:
        raise from_validation_error(error, tagged=True) from None
    except UNEXPECTED as error:
        raise from_unexpected_error(error) from None
    match profile:
        case OpenHandsAgentProfile():
            faults = tuple(_unsupported_settings(profile))
            if faults:
                raise DefinitionError(*faults)
            return profile
        case ACPAgentProfile():
            raise definition_error("an ACP agent is a separate program, which a gateway does not run", "agent_kind")


def _dangling_references(error: UnresolvedProfileReferences) -> Iterator[Fault]:
    if error.llm_profile_ref is not None:
        yield Fault(f"there is no LLM profile {error.llm_profile_ref!r}", ("llm_profile_ref",))
    if error.mcp_server_refs:
        yield Fault("MCP servers of OpenHands' settings are not offered to served agents", ("mcp_server_refs",))


def _unsupported_settings(profile: OpenHandsAgentProfile) -> Iterator[Fault]:
    if profile.enable_classify_and_switch_llm_tool:
        yield Fault("a tool that changes the agent's LLM is not offered", ("enable_classify_and_switch_llm_tool",))
    if profile.verification.critic_enabled:
        yield Fault("a critic is not run", ("verification", "critic_enabled"))
