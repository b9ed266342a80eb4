"""Settings of the LLMs of agents, defined once: for `[[llms]]` in `gateway.toml`, and for the block `a2a:` of a profile.

A key never stands in them. They name the environment variable or the file that holds it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from delegate_tool.protocol.base_url import parse_base_url

_MOST: Final = 10**9
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SEEN_BY_AGENTS: Final = frozenset({"PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME"})
"""Variables that shells of agents receive, so they cannot hold a key."""
_NOT_FOR_LLMS: Final = ("A2A_", "OH_", "SESSION_API_KEY")
"""Beginnings of the names of variables that hold secrets of the gateway and of OpenHands, which no LLM's server may receive."""
_RESERVED_NAMES: Final = frozenset({"inherit", "self"})
_NO_KEY: Final = (
    "a key never stands in a file of settings: name its environment variable in api_key_env, or its file in api_key_file"
)

_OWN_FIELDS: Final[Mapping[str, str]] = {
    "model": "model",
    "base_url": "base_url",
    "api_base": "base_url",
    "api_key": "api_key_env or api_key_file",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "max_output_tokens": "max_output_tokens",
    "max_input_tokens": "context_length",
    "input_cost_per_token": "input_usd_per_mtok",
    "output_cost_per_token": "output_usd_per_mtok",
    "stream": "stream",
    "timeout": "the setting llm_timeout_s",
    "request_timeout": "the setting llm_timeout_s",
    "num_retries": "the setting llm_retries",
    "max_retries": "the setting llm_retries",
}
"""The parameters of LiteLLM for which there is a field or a setting."""
_GATEWAYS_OWN: Final = frozenset(
    {
        *("messages", "input", "instructions", "tools", "tool_choice", "functions", "function_call", "parallel_tool_calls", "n"),
        *("stop", "stream_options", "response_format", "metadata", "user", "prompt_cache_key", "usage_id", "litellm_extra_body"),
        *("custom_llm_provider", "fallbacks", "fallback_strategy", "context_window_fallback_dict", "model_list", "mock_response"),
        *("callbacks", "success_callback", "failure_callback", "logger_fn", "verbose", "cooldown_time", "caching", "cache"),
        *("client", "shared_session", "base_model", "api_type", "store", "include", "previous_response_id", "background"),
    }
)
"""The parameters with which the gateway itself controls each call; overridden, they would break its limits or its answers."""


def _check_variable(text: str) -> str:
    if not _VARIABLE.fullmatch(text) or text in _SEEN_BY_AGENTS:
        raise ValueError("it is not the name of an environment variable for a key, such as OPENAI_API_KEY")
    if text.upper().startswith(_NOT_FOR_LLMS):
        raise ValueError("a variable of the gateway or of OpenHands is not sent to an LLM; name another one")
    return text


def _expand(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("the home directory of `~` is unknown") from None


def _check_file_name(value: object) -> object:
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise ValueError("it must be the path of a file")
    return value


def _check_parameters(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in parameters:
        if name in _OWN_FIELDS:
            raise ValueError(f"{name} cannot stand here; use {_OWN_FIELDS[name]}")
        if name in _GATEWAYS_OWN:
            raise ValueError(f"{name} cannot be set: the gateway controls it in each call")
    return parameters


type Count = Annotated[StrictInt, Field(ge=1, le=_MOST)]
type Price = Annotated[float, Field(strict=True, ge=0, le=_MOST, allow_inf_nan=False)]
type BaseUrl = Annotated[str, AfterValidator(parse_base_url)]
type VariableName = Annotated[str, AfterValidator(_check_variable)]
type KeyFile = Annotated[Path, BeforeValidator(_check_file_name), AfterValidator(_expand)]
type Parameters = Annotated[Mapping[str, Any], AfterValidator(_check_parameters)]


class LLMFields(BaseModel):
    """The fields that an entry of `[[llms]]` and the block of a profile have in common.

    The descriptions are the text of the reference page. Prices are in USD per million tokens.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    base_url: BaseUrl | None = Field(default=None, description="URL of the LLM's server. Default: the provider's own.")
    api_key_env: VariableName | None = Field(
        default=None,
        description="Environment variable that holds the API key. It is removed from the gateway's process. "
        "Default, without a `base_url`: the provider's variable.",
    )
    api_key_file: KeyFile | None = Field(
        default=None, description="File that holds the API key; in a profile relative to it. It is read again when it changes."
    )
    input_usd_per_mtok: Price | None = Field(
        default=None, description="Price of a million prompt tokens. Default: LiteLLM's price, or 0 for a local server."
    )
    output_usd_per_mtok: Price | None = Field(
        default=None, description="Price of a million completion tokens; given together with `input_usd_per_mtok`."
    )
    cached_input_usd_per_mtok: Price | None = Field(
        default=None, description="Price of a million prompt tokens that the provider had cached. Default: `input_usd_per_mtok`."
    )
    context_length: Count | None = Field(
        default=None, description="Size of the context in tokens. Ollama is asked to load the model with it."
    )
    max_output_tokens: Count | None = Field(default=None, description="Maximum of tokens in one answer.")
    vision: StrictBool | None = Field(
        default=None, description="Whether the LLM accepts images. Default: LiteLLM's information about the model."
    )
    stream: StrictBool = Field(
        default=True, description="`false` for a server that refuses tools in a stream, as some local servers do."
    )
    parameters: Parameters = Field(
        default={},
        repr=False,
        description="Further parameters of LiteLLM, such as `temperature`, `api_version`, `extra_headers`.",
    )

    @model_validator(mode="wrap")
    @classmethod
    def _validate(cls, values: object, handler: ValidatorFunctionWrapHandler) -> Self:
        """Validate, and state in an error of which entry it is."""
        try:
            fields: Self = handler(values)
            fields._check_prices()
        except ValidationError as error:
            raise ValidationError.from_exception_data(cls.__name__, list(cls._explain(error, values))) from None
        return fields

    @classmethod
    def _explain(cls, error: ValidationError, values: object) -> Iterator[InitErrorDetails]:
        for item in error.errors(include_url=False, include_context=False, include_input=False):
            at = (*cls._entry_of(values), *item["loc"])
            if item["type"] != "extra_forbidden":
                yield _fault(item["msg"], *at)
            elif at[-1] == "api_key":
                yield _fault(_NO_KEY, *at)
            else:
                yield InitErrorDetails(type=item["type"], loc=at, input=None)

    @classmethod
    def _entry_of(cls, values: object) -> tuple[str, ...]:
        """Return the name of the entry for the location of an error; empty if entries have no names."""
        return ()

    @field_validator("api_key_file")
    @classmethod
    def _check_one_key(cls, value: Path | None, info: Any) -> Path | None:
        if value is not None and info.data.get("api_key_env") is not None:
            raise ValueError("api_key_env is given as well; leave one of the two out")
        return value

    def _check_prices(self) -> None:
        problem = None
        if (self.input_usd_per_mtok is None) != (self.output_usd_per_mtok is None):
            problem = "input_usd_per_mtok and output_usd_per_mtok must be set together"
        # Money is reserved at the price of input that is not cached, so that price must be the higher one.
        elif (self.cached_input_usd_per_mtok or 0) > (self.input_usd_per_mtok or 0):
            problem = "cached_input_usd_per_mtok needs input_usd_per_mtok, and must not be higher"
        if problem is not None:
            raise ValidationError.from_exception_data(type(self).__name__, [_fault(problem)])


class LLMSettings(LLMFields):
    """One entry of `[[llms]]`: an LLM that profiles name in `model`, and that is served as an agent of its own."""

    name: str = Field(description="Name by which profiles refer to it in `model`; it is served as `openhands_{name}`.")
    model: str = Field(description="LiteLLM's id of the model, such as `anthropic/claude-sonnet-4-5` or `ollama/llama3.1`.")

    @classmethod
    def _entry_of(cls, values: object) -> tuple[str, ...]:
        if not isinstance(values, Mapping):
            return ()
        name = values.get("name")
        return (name if isinstance(name, str) and name else "(unnamed)",)

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
            raise ValueError("it must be 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit")
        if value in _RESERVED_NAMES:
            raise ValueError(f"{value!r} is reserved; choose another name")
        return value

    @field_validator("model")
    @classmethod
    def _check_model(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("it must be a model of LiteLLM, such as anthropic/claude-sonnet-4-5")
        return value.strip()


def secret_variables(llms: Iterable[LLMFields]) -> frozenset[str]:
    """Return the names of the environment variables that hold the keys of LLMs."""
    return frozenset(llm.api_key_env for llm in llms if llm.api_key_env is not None)


def _fault(message: str, *at: str | int) -> InitErrorDetails:
    # The input is left out: it may be a key in the wrong place.
    return InitErrorDetails(type=PydanticCustomError("llm_setting", message), loc=at, input=None)
