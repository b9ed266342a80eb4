"""Resolve the LLM of a definition: its model, its server, its credentials, and what settings state about it.

A key belongs to one server. Where a profile names another `base_url`, it inherits neither the key nor the parameters of the LLM
that it names, because a header may be a credential as well. The environment's key and URL are used together or not at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from openhands.sdk import LLM
from openhands.sdk.llm.exceptions import LLMError
from openhands.sdk.llm.utils.litellm_provider import LLMProvider
from openhands.sdk.llm.utils.openhands_provider import litellm_call_kwargs
from pydantic import SecretStr, ValidationError

from a2a_gateway.agents.llm.configured_llm import LEAST_CONTEXT_TOKENS, ConfiguredLLM
from a2a_gateway.agents.llm.local_servers import DEFAULT_SERVERS, SERVER_VARIABLES, is_local
from a2a_gateway.agents.profiles.definition_errors import (
    UNEXPECTED,
    definition_error,
    from_unexpected_error,
    from_validation_error,
)
from a2a_gateway.agents.profiles.key_files import KeyFiles, parse_key
from a2a_gateway.agents.profiles.llm_environment import LLMEnvironment, provider_variables
from a2a_gateway.agents.profiles.saved_llms import SavedLLMs
from a2a_gateway.llm_settings import LLMFields, LLMSettings

INHERIT: Final = "inherit"
LLM_MODEL: Final = "LLM_MODEL"
"""The name of the environment's LLM."""

_NOTHING: Final = LLMFields()
NO_KEY: Final = SecretStr("no-key")
"""Sent to a server that needs no key: without one, the clients of some providers refuse to send, or look for a key elsewhere."""
_OLLAMA: Final = "ollama/"
_OLLAMA_CHAT: Final = "ollama_chat/"
_KEYLESS_PROVIDERS: Final = ("bedrock", "sagemaker", "vertex_ai", "github_copilot", "chatgpt")
"""Providers whose credentials are not a key."""
_FIELDS_OF_SDK: Final[Mapping[str, str]] = {
    "extra_body": "litellm_extra_body",
    **{
        name: name
        for name in (
            *("temperature", "top_p", "top_k", "seed", "reasoning_effort", "reasoning_summary", "extended_thinking_budget"),
            *("api_version", "extra_headers", "openrouter_site_url", "openrouter_app_name", "drop_params", "api_mode"),
            *("native_tool_calling", "disable_stop_word", "force_string_serializer", "inline_image_urls", "caching_prompt"),
            *("prompt_cache_retention", "enable_encrypted_reasoning", "model_canonical_name", "capability_overrides"),
            *("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "aws_region_name", "aws_profile_name"),
            *("aws_role_name", "aws_session_name", "aws_bedrock_runtime_endpoint"),
        )
    },
}
"""The parameters for which the SDK's LLM has a field. All others are added to each request."""


@dataclass(frozen=True, slots=True)
class ResolvedLLM:
    """An LLM with its credentials, and the fields that settings and profile state about it.

    Attributes:
        is_local: whether its server is on this machine or in its private network, so that it charges nothing.
        name: its entry of `[[llms]]`, its saved profile, or `LLM_MODEL`; None if the definition itself describes it.
    """

    llm: ConfiguredLLM = field(repr=False)
    fields: LLMFields = _NOTHING
    is_local: bool = False
    name: str | None = None


@dataclass(frozen=True, slots=True)
class LLMResolver:
    """Resolves the LLM of a definition, including its key.

    Attributes:
        entries: those of `[[llms]]`, by name, in the order of the file.
        key_variables: the environment variables that definitions have named as holding a key, so far.
    """

    saved: SavedLLMs
    environment: LLMEnvironment
    entries: Mapping[str, LLMSettings]
    key_files: KeyFiles
    key_variables: set[str] = field(default_factory=set)

    def of_definition(self, model: str, own: LLMFields = _NOTHING) -> ResolvedLLM:
        """Return the LLM that a definition's `model` names: an entry of `[[llms]]`, a saved profile, or a LiteLLM model id.

        `own` are the definition's own fields, which have precedence.

        Raises:
            DefinitionError: it names none of these, or its key or its fields cannot be used.
        """
        if model in ("", INHERIT):
            return self.of_default(own)
        if model in self.entries:
            return self.of_entry(self.entries[model], own)
        try:
            return self.of_saved(model, self.saved.load(model), own)
        except FileNotFoundError:
            return self._of_model_id(model, own)

    def of_default(self, own: LLMFields = _NOTHING) -> ResolvedLLM:
        """Return the LLM of `LLM_MODEL`, `LLM_API_KEY` and `LLM_BASE_URL`, or the first entry of `[[llms]]`.

        Raises:
            DefinitionError: there is neither, or it cannot be used.
        """
        if self.environment.model is not None:
            return replace(self._of_model_id(self.environment.model, own), name=LLM_MODEL)
        first = next(iter(self.entries.values()), None)
        if first is None:
            raise definition_error("no LLM is set: name a model, set LLM_MODEL, or add an entry to [[llms]] in gateway.toml")
        return self.of_entry(first, own)

    def of_entry(self, entry: LLMSettings, own: LLMFields = _NOTHING) -> ResolvedLLM:
        """Return the LLM of an entry of `[[llms]]`.

        Raises:
            DefinitionError: its key cannot be read, or its model or a parameter is not valid.
        """
        return replace(self._build(entry.model, _merge(entry, own)), name=entry.name)

    def of_saved(self, name: str | None, llm: LLM, own: LLMFields = _NOTHING) -> ResolvedLLM:
        """Return an LLM that OpenHands has saved, with a key from the environment if it lacks one.

        Raises:
            DefinitionError: the definition's own key or fields cannot be used.
        """
        saved = _as_configured(llm)
        key = self._key_of(own)
        changes: dict[str, Any] = {} if key is None else {"api_key": key}
        if own.base_url not in (None, saved.base_url):
            changes = {"base_url": own.base_url, "api_key": key or NO_KEY, "extra_headers": None, "litellm_extra_body": {}}
        fields_of_sdk = _fields_of_sdk(own)
        if fields_of_sdk:
            checked = _llm(saved.model, None, saved.base_url, fields_of_sdk)
            changes |= {name: getattr(checked, name) for name in fields_of_sdk}
        return replace(self._finish(self._with_credentials(_with_route(saved, changes)), own), name=name)

    def _of_model_id(self, model: str, own: LLMFields) -> ResolvedLLM:
        environment = self.environment
        states_server = own.api_key_env is not None or own.api_key_file is not None
        if states_server or own.base_url not in (None, environment.base_url):
            return self._build(model, own)
        provider = _known_provider(model, environment.base_url)
        # LLM_API_KEY is sent only to the provider of LLM_MODEL. Without LLM_MODEL, it is for whatever provider is named.
        if environment.model is None or provider == _provider(environment.model, environment.base_url):
            llm = _llm(model, environment.api_key, environment.base_url, _fields_of_sdk(own), own.context_length)
        else:
            llm = _llm(model, None, None, _fields_of_sdk(own), own.context_length)
        return self._finish(self._with_credentials(llm), own)

    def _build(self, model: str, fields: LLMFields) -> ResolvedLLM:
        """Build the LLM of fields that state its server: with their key, or without one."""
        _known_provider(model, fields.base_url)
        key = self._key_of(fields)
        llm = _llm(model, key, fields.base_url, _fields_of_sdk(fields), fields.context_length)
        # A provider's key from the environment is for the provider's own server.
        return self._finish(self._with_credentials(llm) if fields.base_url is None else llm, fields)

    def _with_credentials(self, llm: ConfiguredLLM) -> ConfiguredLLM:
        """Give an LLM without a key the one that LiteLLM would have read from the environment."""
        provider = _provider(llm.model, llm.base_url) or ""
        if provider.startswith(("bedrock", "sagemaker")) and llm.aws_access_key_id is None:
            return llm.model_copy(update=dict(self.environment.aws_credentials))
        if llm.api_key is None:
            return llm.model_copy(update={"api_key": self.environment.provider_key(provider)})
        return llm

    def _finish(self, llm: ConfiguredLLM, fields: LLMFields) -> ResolvedLLM:
        provider = _provider(llm.model, llm.base_url) or ""
        llm = self._with_server(llm, provider)
        if llm.api_key is None and llm.base_url is not None and not provider.startswith(_KEYLESS_PROVIDERS):
            llm = llm.model_copy(update={"api_key": NO_KEY})
        parameters = {name: value for name, value in fields.parameters.items() if name not in _FIELDS_OF_SDK}
        if llm.model.startswith(_OLLAMA_CHAT):
            llm, parameters = _fit_ollama(llm, fields, parameters)
        self._check_context(llm, fields)
        return ResolvedLLM(llm.with_parameters(parameters), fields, is_local(provider, self._server_of(llm, provider)))

    def _with_server(self, llm: ConfiguredLLM, provider: str) -> ConfiguredLLM:
        """Give an LLM without a URL that of its provider's variable, if LiteLLM would send its requests to OpenAI otherwise."""
        variable = SERVER_VARIABLES.get(provider)
        if variable is None or litellm_call_kwargs(llm.model, llm.base_url)["api_base"] is not None:
            return llm
        named = self.environment.variables.get(variable)
        if named is None:
            raise definition_error(
                f"{llm.model[:80]} has no server: set base_url in the block a2a: of the profile, or in an entry of [[llms]] in "
                "gateway.toml, or LLM_BASE_URL for LLM_MODEL",
                "base_url",
            )
        return llm.model_copy(update={"base_url": named.get_secret_value()})

    def _check_context(self, llm: LLM, fields: LLMFields) -> None:
        tokens = llm.effective_max_input_tokens
        is_stated = fields.context_length is not None or llm.max_input_tokens is not None
        if tokens is None or tokens >= LEAST_CONTEXT_TOKENS or is_stated or self.environment.accepts_short_contexts:
            return
        raise definition_error(
            f"{llm.model} has a context of {tokens} tokens according to LiteLLM, and an agent needs {LEAST_CONTEXT_TOKENS}: set "
            "context_length to the size that its server really has, in the block a2a: of the profile, or in an entry of [[llms]] "
            "in gateway.toml",
            "context_length",
        )

    def _server_of(self, llm: LLM, provider: str) -> str | None:
        if llm.base_url is not None or provider not in DEFAULT_SERVERS:
            return llm.base_url
        variable, default = DEFAULT_SERVERS[provider]
        named = self.environment.variables.get(variable)
        return default if named is None else named.get_secret_value()

    def _key_of(self, fields: LLMFields) -> SecretStr | None:
        if fields.api_key_file is not None:
            return self.key_files.read(fields.api_key_file)
        if fields.api_key_env is None:
            return None
        self.key_variables.add(fields.api_key_env)
        found = self.environment.variables.get(fields.api_key_env)
        # A name in small letters may be the key itself, in the wrong place.
        variable = f"the variable {fields.api_key_env}" if fields.api_key_env.isupper() else "the variable that it names"
        if found is None:
            raise definition_error(f"api_key_env: {variable} is not set; set it, and start the gateway again", "api_key_env")
        return parse_key(found.get_secret_value(), f"api_key_env: {variable}", "api_key_env")


def _merge(entry: LLMFields, own: LLMFields) -> LLMFields:
    """Return the fields of an entry, overruled by a profile's own."""
    given = _stated_fields(own)
    inherited = _stated_fields(entry)
    if "base_url" in given and given["base_url"] != inherited.get("base_url"):
        for name in ("api_key_env", "api_key_file", "parameters"):
            inherited.pop(name, None)
    if given.keys() & {"api_key_env", "api_key_file"}:
        inherited = {name: value for name, value in inherited.items() if name not in ("api_key_env", "api_key_file")}
    if "input_usd_per_mtok" in given:
        inherited.pop("cached_input_usd_per_mtok", None)
    parameters = {**inherited.get("parameters", {}), **given.get("parameters", {})}
    try:
        return LLMFields(**{**inherited, **given, "parameters": parameters})
    except ValidationError as error:
        raise from_validation_error(error) from None


def _stated_fields(fields: LLMFields) -> dict[str, Any]:
    names = fields.model_fields_set & LLMFields.model_fields.keys()
    return {name: getattr(fields, name) for name in names if getattr(fields, name) is not None}


def _fields_of_sdk(fields: LLMFields) -> dict[str, Any]:
    return {_FIELDS_OF_SDK[name]: value for name, value in fields.parameters.items() if name in _FIELDS_OF_SDK}


def _llm(
    model: str,
    api_key: SecretStr | None,
    base_url: str | None,
    fields_of_sdk: Mapping[str, Any],
    context_length: int | None = None,
) -> ConfiguredLLM:
    model, base_url = _route(model, base_url)
    try:
        llm = ConfiguredLLM(
            model=model, api_key=api_key, base_url=base_url, max_input_tokens=context_length, **dict(fields_of_sdk)
        )
    except ValidationError as error:
        raise from_validation_error(error, ("parameters",)) from None
    except LLMError as error:
        raise definition_error(error.message) from None
    except UNEXPECTED as error:
        raise from_unexpected_error(error) from None
    is_known = "supports_reasoning" in (llm.model_info or {})
    if base_url is None or is_known or "reasoning_effort" in fields_of_sdk:
        return llm
    # The SDK sends an effort to every model that LiteLLM does not know, and servers may refuse it.
    return llm.model_copy(update={"reasoning_effort": None})


def missing_key(llm: LLM, *, is_local: bool) -> str | None:
    """Return the variable that is to hold the key of a resolved LLM; None if it has a key, or needs none."""
    provider = _provider(llm.model, llm.base_url) or ""
    if llm.api_key is not None or is_local or provider.startswith(_KEYLESS_PROVIDERS):
        return None
    return provider_variables(provider)[0]


def _route(model: str, base_url: str | None) -> tuple[str, str | None]:
    """Return the model id and the URL with which LiteLLM offers tools: Ollama's first endpoint lacks them."""
    if model.startswith(_OLLAMA):
        model = _OLLAMA_CHAT + model.removeprefix(_OLLAMA)
    if model.startswith(_OLLAMA_CHAT) and base_url is not None:
        base_url = base_url.rstrip("/").removesuffix("/v1").rstrip("/")
    return model, base_url


def _fit_ollama(llm: ConfiguredLLM, fields: LLMFields, parameters: dict[str, Any]) -> tuple[ConfiguredLLM, dict[str, Any]]:
    if fields.context_length is not None:
        # Otherwise Ollama loads the model with a smaller context, and silently drops the start of each longer prompt.
        parameters = {"num_ctx": fields.context_length, **parameters}
    if "reasoning_effort" not in fields.parameters:
        # The SDK sends an effort to every model. Ollama refuses it for models that do not think, and others think anyway.
        llm = llm.model_copy(update={"reasoning_effort": None})
    return llm, parameters


def _with_route(llm: ConfiguredLLM, changes: Mapping[str, Any]) -> ConfiguredLLM:
    model, base_url = _route(llm.model, changes.get("base_url", llm.base_url))
    changes = {**changes, "model": model, "base_url": base_url}
    different = {name: value for name, value in changes.items() if getattr(llm, name) != value}
    return llm.model_copy(update=different) if different else llm


def _as_configured(llm: LLM) -> ConfiguredLLM:
    if isinstance(llm, ConfiguredLLM):
        return llm
    # Without validation: the LLM is valid already, and validation would drop its private attributes.
    configured = ConfiguredLLM.model_construct(**vars(llm))
    for name, value in (llm.__pydantic_private__ or {}).items():
        setattr(configured, name, value)
    return configured


def _known_provider(model: str, base_url: str | None) -> str:
    provider = _provider(model, base_url)
    if provider is None:
        message = (
            f"{model[:80]!r} is neither an entry of [[llms]], nor one of OpenHands' LLM profiles, nor a model that LiteLLM knows"
        )
        raise definition_error(f"{message}; for a server of your own, add its protocol, as in openai/{model[:80]}")
    return provider


def _provider(model: str, base_url: str | None) -> str | None:
    call = litellm_call_kwargs(*_route(model, base_url))
    return LLMProvider.from_model(model=call["model"], api_base=call["api_base"]).name
