"""What raises the errors of agents: their LLM, their profiles, their answers, their machine."""

from pathlib import Path
from typing import Final

from openhands.sdk.llm import exceptions as sdk

from a2a_gateway.agents.answer_form import AnswerForm
from a2a_gateway.agents.llm.budget_notes import budget_spent_error
from a2a_gateway.agents.llm.error_translation import failure_of
from a2a_gateway.agents.llm.finish_reasons import empty_answers_error, output_limit_error
from a2a_gateway.agents.schema_checker import SchemaChecker
from a2a_gateway.agents.sdk_patches.patching import Patch, require
from a2a_gateway.agents.tools.toolbox import LocalToolbox
from a2a_gateway.runs.messages import AnswerFormat
from delegate_tool.masking import Secrets
from tests.agents.profiles.place import Place
from tests.error_texts.texts import Case

_CITY: Final[dict[str, object]] = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
_FORMER_KEY = "8a5f1d3b7c9e2f4a6b8d0c1e3f5a7b9d"


def failed_with(error: Exception) -> Case:
    """An LLM call that raises this."""
    return lambda _: failure_of(error, Secrets())


def answered(text: str, schema: dict[str, object] | None = None) -> Case:
    """A final answer that must be an object, or one of a schema."""

    async def case(_: Path) -> object:
        wanted = AnswerFormat("json_object") if schema is None else AnswerFormat("json_schema", schema=schema)
        async with SchemaChecker() as checker:
            return await AnswerForm(wanted, checker, user="ada").check(text)

    return case


def _broken_profile(directory: Path) -> object:
    place = Place.make(directory, {"LLM_MODEL": "openai/gpt-4o", "LLM_API_KEY": "sk-environment"})
    place.write("file.md", "---\nname: writer\na2a:\n  max_depth: -1\n---\n")
    return place.open().get("writer")


def _unknown_profile(directory: Path) -> object:
    return Place.make(directory).open().get("nobody")


def _untested_sdk(_: Path) -> None:
    with require([Patch("json", "no_such_loader", lambda original: original)]):
        pass


def _wrong_cipher_key(directory: Path) -> object:
    place = Place.make(directory)
    place.save_llm("fast", cipher_key=_FORMER_KEY)
    return place.open({"OH_SECRET_KEY": "a wrong one"})


async def _machine_without_bash(directory: Path) -> object:
    async with LocalToolbox(directory / "shells", shell_pool_size=1, environ={"PATH": str(directory), "HOME": str(directory)}):
        return None


CASES: dict[str, Case] = {
    "llm_bad_request": failed_with(sdk.LLMBadRequestError("no such parameter")),
    "llm_auth_failed": failed_with(sdk.LLMAuthenticationError("no")),
    "llm_rate_limited": failed_with(sdk.LLMRateLimitError("slow down")),
    "llm_unavailable: the provider does not answer": failed_with(sdk.LLMServiceUnavailableError("down")),
    "llm_unavailable: answers without text": lambda _: empty_answers_error(),
    "context_length_exceeded": failed_with(sdk.LLMContextWindowExceedError("8192 tokens")),
    "content_filter": failed_with(sdk.LLMContentPolicyViolationError("no")),
    "agent_error": failed_with(ValueError("a bug")),
    "budget_exceeded: before the agent had finished": lambda _: budget_spent_error(),
    "run_failed: cut off at the limit of output tokens": lambda _: output_limit_error(),
    "response_format_violated: not JSON": answered("Here it is: {}"),
    "response_format_violated: not an object": answered("[1]"),
    "response_format_violated: a property of the wrong type": answered('{"name": 7}', _CITY),
    "response_format_violated: a property is missing": answered("{}", _CITY),
    "model_not_found: a broken profile": _broken_profile,
    "model_not_found: no such profile": _unknown_profile,
    "configuration_error: LLM profiles of another cipher key": _wrong_cipher_key,
    "configuration_error: a machine without bash": _machine_without_bash,
    "configuration_error: an SDK that is not the tested one": _untested_sdk,
}
