"""The tools that a profile may name: their public names, and what else people call them.

The names are a contract with profile files; which code stands behind a name is decided where agents are built.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from a2a_gateway.agents.profiles.faults import DefinitionError, Fault
from a2a_gateway.agents.recipe import ToolSpec

DELEGATE: Final = "delegate"

TOOL_NAMES: Final = ("terminal", "file_editor", "grep", "glob", "task_tracker", DELEGATE)

DEFAULT_TOOLS: Final = tuple(ToolSpec(name) for name in ("terminal", "file_editor", "task_tracker", DELEGATE))
"""What an agent has whose profile does not say: OpenHands' standard set, and delegation. `tools: []` gives it none."""

# OpenHands' class names and the names of its own sub-agent tools, for which delegation stands in.
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

# Every agent has these anyway, so naming them asks for nothing.
_BUILT_IN: Final = frozenset({"finish", "think", "FinishTool", "ThinkTool"})


def parse_tools(specs: Iterable[tuple[str, Mapping[str, object]]], *at: str | int) -> tuple[ToolSpec, ...]:
    """Read a profile's list of tools, each a name and parameters; a tool named twice is had once, as it was first named.

    Raises:
        DefinitionError: a name is unknown; `at` is where the list stands in the document.
    """
    tools: dict[str, ToolSpec] = {}
    faults: list[Fault] = []
    for index, (given, params) in enumerate(specs):
        name = _ALIASES.get(given, given)
        if name in TOOL_NAMES:
            tools.setdefault(name, ToolSpec(name, dict(params)))
        elif name not in _BUILT_IN:
            faults.append(Fault(f"unknown tool {given[:60]!r}; known are {', '.join(TOOL_NAMES)}", (*at, index)))
    if faults:
        raise DefinitionError(*faults)
    return tuple(tools.values())
