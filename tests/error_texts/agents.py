"""What raises the errors of agents: their LLM, their profiles, their answers, their machine."""

from pathlib import Path
from typing import Any, Final

from openhands.sdk.llm import exceptions as sdk
from openhands.sdk.mcp import MCPServer

from a2a_gateway.agents.answer_form import AnswerForm
from a2a_gateway.agents.llm.budget_notes import budget_spent_error
from a2a_gateway.agents.llm.error_translation import failure_of
from a2a_gateway.agents.llm.finish_reasons import empty_answers_error, output_limit_error
from a2a_gateway.agents.schema_checker import SchemaChecker
from a2a_gateway.agents.sdk_patches.patching import Patch, require
from a2a_gateway.agents.tools.mcp_servers import McpServers
from a2a_gateway.agents.tools.toolbox import LocalToolbox
from a2a_gateway.runs.messages import AnswerFormat
from delegate_tool.masking import Secrets
from tests.agents.profiles.place import Place
from tests.error_texts.texts import Case

_CITY: Final[dict[str, object]] = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
_FORMER_KEY = "8a5f1d3b7c9e2f4a6b8d0c1e3f5a7b9d"


def failing_call(error: Exception) -> Case:
    """Make a case of an LLM call that raises this."""
    return lambda _: failure_of(error, Secrets())


def final_answer(text: str, schema: dict[str, object] | None = None) -> Case:
    """Make a case of a final answer that must be an object, or one of a schema."""

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
    return Place.make(directory).open().get("missing")


def _untested_sdk(_: Path) -> None:
    with require([Patch("json", "no_such_loader", lambda original: original)]):
        pass


def _wrong_cipher_key(directory: Path) -> object:
    place = Place.make(directory)
    place.save_llm("fast", cipher_key=_FORMER_KEY)
    return place.open({"OH_SECRET_KEY": "a wrong one"})


def failing_server(**fields: Any) -> Case:
    """Make a case of an MCP server that does not start."""

    def case(_: Path) -> None:
        servers = McpServers({"tickets": MCPServer(**fields)}, Secrets())
        try:
            servers.start((), lambda _: None)
        finally:
            servers.close()

    return case


async def _machine_without_bash(directory: Path) -> object:
    async with LocalToolbox(directory / "shells", shell_pool_size=1, environ={"PATH": str(directory), "HOME": str(directory)}):
        return None


CASES: dict[str, Case] = {
    "llm_bad_request": failing_call(sdk.LLMBadRequestError("no such parameter")),
    "llm_auth_failed": failing_call(sdk.LLMAuthenticationError("no")),
    "llm_rate_limited": failing_call(sdk.LLMRateLimitError("slow down")),
    "llm_unavailable: the provider does not answer": failing_call(sdk.LLMServiceUnavailableError("down")),
    "llm_unavailable: answers without text": lambda _: empty_answers_error(),
    "context_length_exceeded": failing_call(sdk.LLMContextWindowExceedError("8192 tokens")),
    "content_filter": failing_call(sdk.LLMContentPolicyViolationError("no")),
    "agent_error": failing_call(ValueError("a bug")),
    "agent_error: an MCP server whose program does not exist": failing_server(command="/no/such-server"),
    "agent_error: an MCP server that ends at once": failing_server(command="sh", args=["-c", "read -r _; echo no token >&2"]),
    "budget_exceeded: before the agent had finished": lambda _: budget_spent_error(),
    "run_failed: cut off at the limit of output tokens": lambda _: output_limit_error(),
    "response_format_violated: not JSON": final_answer("Here it is: {}"),
    "response_format_violated: not an object": final_answer("[1]"),
    "response_format_violated: a property of the wrong type": final_answer('{"name": 7}', _CITY),
    "response_format_violated: a property is missing": final_answer("{}", _CITY),
    "model_not_found: a broken profile": _broken_profile,
    "model_not_found: no such profile": _unknown_profile,
    "configuration_error: LLM profiles of another cipher key": _wrong_cipher_key,
    "configuration_error: a machine without bash": _machine_without_bash,
    "configuration_error: an SDK that is not the tested one": _untested_sdk,
}
