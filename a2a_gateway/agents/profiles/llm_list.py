"""List the LLMs that agents use: those of `[[llms]]`, of OpenHands' saved profiles and of `LLM_MODEL`, and those of profiles."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Final

from openhands.sdk import LLM
from openhands.sdk.llm.utils.litellm_provider import LLMProvider
from pydantic import SecretStr

from a2a_gateway.agents.profiles.catalogue import ProfileCatalog
from a2a_gateway.agents.profiles.definition_errors import DefinitionError
from a2a_gateway.agents.profiles.key_files import KeyFiles
from a2a_gateway.agents.profiles.llm_environment import provider_variables
from a2a_gateway.agents.profiles.llm_resolver import LLM_MODEL, NO_KEY, LLMResolver, ResolvedLLM, missing_key
from a2a_gateway.agents.profiles.recipe_builder import Parts, build_recipe, recipe_warnings
from a2a_gateway.agents.recipe import AgentRecipe
from a2a_gateway.llm_settings import LLMFields
from a2a_gateway.runs.model import TokenUsage
from a2a_gateway.settings import Settings

_THOUSANDS: Final = (TokenUsage(prompt=1000), TokenUsage(completion=1000))
_CREDENTIALS_OF_AWS: Final = ("bedrock", "sagemaker")


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where the key of an LLM comes from, never the key.

    Attributes:
        name: a variable, a file, or `OpenHands`; None if no key is needed.
    """

    name: str | None
    is_set: bool


@dataclass(frozen=True, slots=True)
class ListedLLM:
    """One LLM.

    Attributes:
        source: `gateway.toml`, `OpenHands`, `environment`, or the file of the profile that describes it.
        used_by: the models of the agents on it.
        recipe: of the default agent on it; None if it cannot be used.
        problem: why it cannot be used.
        warnings: what will fail or surprise at the first request.
    """

    name: str
    source: str
    model: str | None
    base_url: str | None
    key: KeySource
    used_by: tuple[str, ...] = ()
    recipe: AgentRecipe | None = field(default=None, repr=False)
    problem: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def usd_per_mtok(self) -> tuple[Decimal, Decimal] | None:
        """The prices of a million prompt tokens and completion tokens, in a call of usual size; None if they are not known."""
        if self.recipe is None:
            return None
        prices = self.recipe.prices
        costs = [prices.estimate_usd(usage) for usage in _THOUSANDS]
        of_prompt, of_completion = costs if None not in costs else (prices.nominal_usd(usage) for usage in _THOUSANDS)
        return None if of_prompt is None or of_completion is None else (of_prompt * 1000, of_completion * 1000)


def list_llms(catalog: ProfileCatalog, settings: Settings) -> list[ListedLLM]:
    """Return all LLMs in the order of their precedence, and last those that only profiles describe."""
    llms = catalog.llms
    agents = [catalog.recipe(profile.name) for profile in catalog.list()]
    listed = list(_named_llms(llms, settings))
    names = {llm.name for llm in listed}
    own = {_identity(agent): agent for agent in agents if agent.llm_name not in names}
    listed += [
        _make_listed(agent.profile.model, Path(agent.profile.source).name, agent, llms, settings) for agent in own.values()
    ]
    return [replace(llm, used_by=tuple(_users(llm, agents))) for llm in listed]


def _named_llms(llms: LLMResolver, settings: Settings) -> Iterator[ListedLLM]:
    for name, entry in llms.entries.items():
        yield _list_resolved(name, "gateway.toml", partial(llms.of_entry, entry), llms, settings)
    for name in llms.saved.found:
        yield _list_resolved(name, "OpenHands", partial(_load_saved, llms, name), llms, settings)
    if llms.environment.model is not None:
        yield _list_resolved(LLM_MODEL, "environment", llms.of_default, llms, settings)


def _load_saved(llms: LLMResolver, name: str) -> ResolvedLLM:
    return llms.of_saved(name, llms.saved.load(name))


def _list_resolved(
    name: str, source: str, resolve: Callable[[], ResolvedLLM], llms: LLMResolver, settings: Settings
) -> ListedLLM:
    try:
        resolved = resolve()
        return _make_listed(name, source, build_recipe(Parts("llm", source, resolved), settings), llms, settings)
    except DefinitionError as error:
        entry = llms.entries.get(name)
        if entry is None:
            model = llms.environment.model if name == LLM_MODEL else None
            return ListedLLM(name, source, model, None, KeySource(None, is_set=False), problem=str(error))
        return ListedLLM(name, source, entry.model, entry.base_url, _stated_key(entry), problem=str(error))


def _make_listed(name: str, source: str, recipe: AgentRecipe, llms: LLMResolver, settings: Settings) -> ListedLLM:
    warnings = tuple(fault.message for fault in recipe_warnings(recipe, settings))
    key = _key_source(recipe, llms)
    return ListedLLM(name, source, recipe.llm.model, recipe.llm.base_url, key, recipe=recipe, warnings=warnings)


def _users(llm: ListedLLM, agents: list[AgentRecipe]) -> Iterator[str]:
    for agent in agents:
        if agent.llm_name == llm.name or (
            agent.llm_name is None and llm.recipe and llm.recipe.llm_name is None and _identity(agent) == _identity(llm.recipe)
        ):
            yield agent.profile.model


def _identity(agent: AgentRecipe) -> tuple[object, ...]:
    return agent.llm.model, agent.llm.base_url, _text(agent.llm.api_key)


def _stated_key(fields: LLMFields) -> KeySource:
    return KeySource(fields.api_key_env or (str(fields.api_key_file) if fields.api_key_file else None), is_set=False)


def _key_source(recipe: AgentRecipe, llms: LLMResolver) -> KeySource:
    """Find where a key comes from by its value, which is the same whichever way it came."""
    llm, environment = recipe.llm, llms.environment
    provider = LLMProvider.from_model(model=llm.model, api_base=llm.base_url).name or ""
    key = _text(llm.api_key)
    if provider.startswith(_CREDENTIALS_OF_AWS) and key is None:
        return KeySource("AWS_ACCESS_KEY_ID", is_set=llm.aws_access_key_id is not None)
    if key in (None, NO_KEY.get_secret_value()):
        return KeySource(missing_key(llm, is_local=recipe.is_local), is_set=False)
    saved = llms.saved.found.get(recipe.llm_name or "")
    if isinstance(saved, LLM) and _text(saved.api_key) == key:
        return KeySource("OpenHands", is_set=True)
    named = [*sorted(llms.key_variables), "LLM_API_KEY", *provider_variables(provider)]
    for name in named:
        if name in environment.variables and environment.variables[name].get_secret_value() == key:
            return KeySource(name, is_set=True)
    files = KeyFiles()
    for path in llms.key_files.stamps:
        if _content(files, path) == key:
            return KeySource(str(path), is_set=True)
    return KeySource("OpenHands", is_set=True)


def _content(files: KeyFiles, path: Path) -> str | None:
    try:
        return files.read(path).get_secret_value()
    except DefinitionError:
        return None


def _text(key: SecretStr | str | None) -> str | None:
    return key.get_secret_value() if isinstance(key, SecretStr) else key
