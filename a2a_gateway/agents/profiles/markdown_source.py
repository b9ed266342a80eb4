"""Read markdown agent definitions in OpenHands' own format, with the gateway's settings in a block `a2a:`.

The SDK's `AgentDefinition.load` reads the definition. This module parses the front matter a second time, for what the SDK drops:
line numbers, the difference between an absent and an empty list, and nulls. A feature that the gateway does not support is a
fault, never ignored; an unknown field is a warning.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import yaml
from openhands.sdk.context.condenser import LLMSummarizingCondenser, NoOpCondenser
from openhands.sdk.subagent import AgentDefinition
from openhands.sdk.subagent.schema import KNOWN_FIELDS
from pydantic import ValidationError

from a2a_gateway.agents.profiles.a2a_block import GATEWAY_SETTINGS, GatewayBlock, parse_block
from a2a_gateway.agents.profiles.definition_errors import (
    UNEXPECTED,
    DefinitionError,
    Document,
    Fault,
    definition_error,
    from_syntax_error,
    from_unexpected_error,
    from_validation_error,
    read_text,
)
from a2a_gateway.agents.profiles.llm_resolver import LLMResolver
from a2a_gateway.agents.profiles.mcp_definitions import FIELDS as MCP_FIELDS
from a2a_gateway.agents.profiles.mcp_definitions import resolve_servers, server_warnings
from a2a_gateway.agents.profiles.recipe_builder import CONDENSER_MAX_SIZE, Entry, Parts, build_recipe, recipe_warnings
from a2a_gateway.agents.profiles.tool_names import DEFAULT_TOOLS, parse_tools
from a2a_gateway.agents.recipe import AgentRecipe, ToolSpec
from a2a_gateway.settings import Settings
from delegate_tool.protocol.money import micro_usd_from_float
from delegate_tool.protocol.text import did_you_mean

BLOCK: Final = "a2a"

_FRONT_MATTER: Final = re.compile(r"\s*^-{3,}[ \t]*\n(?P<header>.*?)^-{3,}[ \t]*$", re.DOTALL | re.MULTILINE)
_OPENED: Final = re.compile(r"\s*^-{3,}[ \t]*$", re.MULTILINE)
_NAME_LINE: Final = re.compile(r"^name:[ \t]*[\"']?([\w.-]+)", re.MULTILINE)
_TABS: Final = re.compile(r"^[ \t]*(?:-[ \t]+)*(?:[\w.-]+:(?=\s))?[ \t]*", re.MULTILINE)
"""The white space of a line up to its value. Quoted or folded text after it stays unchanged."""
_TAB: Final = "  "
_EXAMPLES: Final = re.compile(r"<example>.*?</example>", re.DOTALL | re.IGNORECASE)

_NUMBERS: Final = frozenset({"max_iteration_per_run", "max_budget_per_run"})
_SEVERAL: Final = re.compile(r"[\s,;]+")
_NO_WORD: Final = re.compile(r"[^\w]+")

_UNSUPPORTED: Final[Mapping[str, str]] = {
    "skills": "skills are not loaded: they may run programs outside of the agent's tools; write their text into the body",
    "mcpServers": "the field is named mcp_servers",
    "hooks": "hooks are not run: they are programs outside of the agent's tools",
    "profile_store_dir": "another profile store is not read: save LLM profiles in OpenHands' own",
}


@dataclass(frozen=True, slots=True)
class MarkdownSource:
    """Reads definitions, with one snapshot of the LLM profiles."""

    llms: LLMResolver
    settings: Settings

    def read(self, path: Path) -> Entry:
        """Read one file."""
        try:
            text = _without_tabs(read_text(path))
        except DefinitionError as error:
            document = Document(path, "")
            return Entry(path.stem, problems=document.problems(error), document=document)
        match = _FRONT_MATTER.match(text)
        if match is None:
            document = Document(path, "")
            missing = DefinitionError(Fault(_missing_front_matter(text), line=1))
            return Entry(path.stem, problems=document.problems(missing), document=document)
        document = Document(path, match["header"], text.count("\n", 0, match.start("header")) + 1)
        named = _NAME_LINE.search(document.text)
        try:
            front = _front_matter(document)
            recipe = self._recipe(document, front, text)
        except DefinitionError as error:
            return Entry(named[1] if named else path.stem, problems=document.problems(error), document=document)
        warnings = (*_unknown_fields(front), *server_warnings(front), *recipe_warnings(recipe, self.settings))
        return Entry(recipe.profile.name, recipe, document.warnings(warnings), document)

    def _recipe(self, document: Document, front: Mapping[str, object], text: str) -> AgentRecipe:
        faults = tuple(_unsupported_settings(front))
        if faults:
            raise DefinitionError(*faults)
        definition = _definition(document, front, text)
        block = _block(front.get(BLOCK))
        body = definition.system_prompt or None
        try:
            llm = self.llms.of_definition(definition.model, block.llm_fields(document.path.parent))
        except DefinitionError as error:
            raise _locate_llm_faults(error, front) from None
        return build_recipe(
            Parts(
                name=definition.name,
                source=document.path,
                llm=llm,
                description=" ".join(_EXAMPLES.sub("", definition.description).split()),
                tools=_tools(front, definition),
                block=block,
                max_turns=definition.max_iteration_per_run,
                budget_micro_usd=_budget(definition.max_budget_per_run),
                system_prompt=body if block.prompt == "replace" else None,
                system_suffix=body if block.prompt == "append" else None,
                condenser_max_size=_condenser_max_size(definition),
                mcp=resolve_servers(definition.mcp_config, _mcp_field(front), self.llms.environment, self.llms.key_variables),
            ),
            self.settings,
        )


def _locate_llm_faults(error: DefinitionError, front: Mapping[str, object]) -> DefinitionError:
    """Locate each fault at the field of the block that it is about, or at the field that names the LLM."""
    block = front.get(BLOCK)
    own = block.keys() if isinstance(block, dict) else frozenset()
    return DefinitionError(
        *(replace(fault, at=(BLOCK, *fault.at) if fault.at[:1] and fault.at[0] in own else ("model",)) for fault in error.faults)
    )


def _missing_front_matter(text: str) -> str:
    if _OPENED.match(text):
        return "the front matter that begins here has no end: write a line of --- below its last field"
    return "has no front matter: begin the file with a line of ---, its fields, and another line of ---"


def _without_tabs(text: str) -> str:
    """Replace tabs by spaces in the front matter, where YAML does not accept tabs as white space."""
    match = _FRONT_MATTER.match(text)
    if match is None or "\t" not in match["header"]:
        return text
    start, end = match.span("header")
    return text[:start] + _TABS.sub(lambda blanks: blanks[0].replace("\t", _TAB), match["header"]) + text[end:]


def _front_matter(document: Document) -> Mapping[str, object]:
    try:
        values = yaml.safe_load(document.text)
    except yaml.YAMLError as error:
        raise from_syntax_error(error, document.first_line) from None
    except UNEXPECTED as error:
        raise from_unexpected_error(error) from None
    if not isinstance(values, dict):
        raise DefinitionError(Fault("its front matter is not a mapping of names to values", line=document.first_line))
    return {str(key): value for key, value in values.items()}


def _unsupported_settings(front: Mapping[str, object]) -> Iterator[Fault]:
    yield from (Fault(message, (key,)) for key, message in _UNSUPPORTED.items() if front.get(key))
    yield from (Fault(f"{key} belongs in the block {BLOCK}:", (key,)) for key in front if key in GATEWAY_SETTINGS)
    if str(front.get("permission_mode") or "never_confirm").strip().lower() != "never_confirm":
        yield Fault("permission_mode can only be never_confirm: a gateway has no user who could confirm", ("permission_mode",))
    for key in _NUMBERS & front.keys():
        if isinstance(front[key], bool) or not isinstance(front[key], int | float | str | None):
            yield Fault(f"{key} must be a number", (key,))
    if isinstance(front.get("name"), bool):
        yield Fault("name must be text: put it in quotation marks", ("name",))
    if isinstance(front.get("max_iteration_per_run"), float):
        yield Fault("max_iteration_per_run must be a whole number", ("max_iteration_per_run",))
    tools = front.get("tools")
    if isinstance(tools, str) and _SEVERAL.search(tools.strip()):
        yield Fault(f"tools must be a list: write [{', '.join(_SEVERAL.split(tools.strip()))[:80]}]", ("tools",))
    elif tools is not None and not isinstance(tools, str) and not _is_list_of_text(tools):
        yield Fault("tools must be a list of names, such as [terminal, delegate]", ("tools",))


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _unknown_fields(front: Mapping[str, object]) -> Iterator[Fault]:
    known = {*KNOWN_FIELDS, BLOCK}
    for key in front.keys() - known:
        hint = did_you_mean(key, known)
        yield Fault(f"{key[:60]} is not a field of an agent definition, and has no effect{hint}", (key,))


def _definition(document: Document, front: Mapping[str, object], text: str) -> AgentDefinition:
    try:
        definition = _load(document.path, text)
    except yaml.YAMLError as error:  # the SDK's parser also receives the end of the previous line
        raise from_syntax_error(error, document.first_line - 1) from None
    except ValidationError as error:
        raise from_validation_error(error) from None
    except OSError as error:
        raise definition_error(f"cannot be read: {type(error).__name__}") from None
    except UNEXPECTED as error:
        raise from_unexpected_error(error) from None
    # The SDK reads an empty field as the text `None`.
    absent = {"name": document.path.stem, "description": "", "model": "inherit"}
    return definition.model_copy(update={key: value for key, value in absent.items() if front.get(key) is None})


def _load(path: Path, text: str) -> AgentDefinition:
    """Load a definition with the SDK, from a copy if the text differs from the file."""
    if path.read_text(encoding="utf-8") == text:
        return AgentDefinition.load(path)
    with TemporaryDirectory(prefix="a2a-definition-") as directory:
        copy = Path(directory, path.name)
        copy.write_text(text, encoding="utf-8")
        return AgentDefinition.load(copy)


def _mcp_field(front: Mapping[str, object]) -> str:
    return next((name for name in MCP_FIELDS if name in front), MCP_FIELDS[0])


def _block(values: object) -> GatewayBlock:
    try:
        return parse_block({} if values is None else values)
    except ValidationError as error:
        raise from_validation_error(error, (BLOCK,), known=GATEWAY_SETTINGS) from None


def _budget(usd: float | None) -> int | None:
    try:
        return None if usd is None else micro_usd_from_float(usd)
    except ValueError as error:
        raise definition_error(f"max_budget_per_run: {error}", "max_budget_per_run") from None


def _tools(front: Mapping[str, object], definition: AgentDefinition) -> tuple[ToolSpec, ...]:
    if front.get("tools") is None:
        return DEFAULT_TOOLS
    return parse_tools(((name, {}) for name in definition.tools), "tools")


def _condenser_max_size(definition: AgentDefinition) -> int | None:
    match definition.condenser:
        case None:
            return CONDENSER_MAX_SIZE
        case NoOpCondenser():
            return None
        case LLMSummarizingCondenser(max_size=max_size):
            return max_size
        case _:
            raise definition_error("condenser must be default, none, or an LLMSummarizingCondenser", "condenser")
