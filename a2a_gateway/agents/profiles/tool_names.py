"""The tools that a profile may name: their public names, aliases and parameters.

The names are a contract with profile files. `tools.toolbox` maps them to code.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from a2a_gateway.agents.profiles.definition_errors import DefinitionError, Fault, KeyPath
from a2a_gateway.agents.recipe import ToolSpec
from delegate_tool.protocol.text import did_you_mean

DELEGATE: Final = "delegate"

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_SECONDS: Final = 10**9

TOOL_NAMES: Final = ("terminal", "file_editor", "grep", "glob", "task_tracker", DELEGATE)

DEFAULT_TOOLS: Final = tuple(ToolSpec(name) for name in ("terminal", "file_editor", "task_tracker", DELEGATE))
"""The tools of a profile without a list of tools: OpenHands' standard set, and delegation. `tools: []` means no tools."""

# OpenHands' class names, and the names of its own sub-agent tools, which delegation replaces.
_ALIASES: Final[Mapping[str, str]] = {
    "TerminalTool": "terminal",
    "BashTool": "terminal",
    "execute_bash": "terminal",
    "bash": "terminal",
    "FileEditorTool": "file_editor",
    "str_replace_editor": "file_editor",
    "GrepTool": "grep",
    "GlobTool": "glob",
    "TaskTrackerTool": "task_tracker",
    "DelegateTool": DELEGATE,
    "DelegationTool": DELEGATE,
    "TaskToolSet": DELEGATE,
    "task_tool_set": DELEGATE,
}


def _is_duration(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _MAX_SECONDS


def _is_environment(value: object) -> bool:
    return isinstance(value, Mapping) and all(_is_variable(name, text) for name, text in value.items())


def _is_variable(name: object, text: object) -> bool:
    return isinstance(name, str) and _VARIABLE.fullmatch(name) is not None and isinstance(text, str) and "\0" not in text


_PARAMS: Final[Mapping[str, Mapping[str, tuple[Callable[[object], bool], str]]]] = {
    "terminal": {
        "no_change_timeout_seconds": (_is_duration, "a number of seconds above 0"),
        "env": (_is_environment, "names of variables with their values, all text"),
    },
}

# Every agent has these, so naming them has no effect.
_BUILT_IN: Final = frozenset({"finish", "think", "FinishTool", "ThinkTool"})


def parse_tools(specs: Iterable[tuple[str, Mapping[str, object]]], *at: str | int) -> tuple[ToolSpec, ...]:
    """Parse a profile's list of tools, each a name and parameters. If a tool is listed twice, the first entry counts.

    `at` is the location of the list in the document.

    Raises:
        DefinitionError: a name or a parameter is unknown, or a parameter's value is invalid.
    """
    tools: dict[str, ToolSpec] = {}
    faults: list[Fault] = []
    for index, (given, params) in enumerate(specs):
        name = _ALIASES.get(given, given)
        if name in TOOL_NAMES:
            faults += _param_faults(name, params, (*at, index, "params"))
            tools.setdefault(name, ToolSpec(name, dict(params)))
        elif name not in _BUILT_IN:
            hint = did_you_mean(given, TOOL_NAMES) or f"; known are {', '.join(TOOL_NAMES)}"
            faults.append(Fault(f"unknown tool {given[:60]!r}{hint}", (*at, index)))
    if faults:
        raise DefinitionError(*faults)
    return tuple(tools.values())


def _param_faults(tool: str, params: Mapping[str, object], at: KeyPath) -> Iterator[Fault]:
    if tool == DELEGATE:
        return  # its parameters are for use outside of a gateway, and an alias may name a tool with other parameters
    known = _PARAMS.get(tool, {})
    for name, value in params.items():
        if name not in known:
            yield Fault(f"the tool {tool} has no parameter {name[:60]!r}", (*at, name))
        elif not known[name][0](value):
            yield Fault(f"the tool {tool}'s {name} must be {known[name][1]}", (*at, name))
