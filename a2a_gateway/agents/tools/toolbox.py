"""The one place where the tools of gateway agents are built: from the profile's list, with executors of our own.

Owns the pool of shells. Above it stands the runner; below, `definitions`. Tools that are not named here do not exist for an
agent.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self
from uuid import UUID

from anyio import CancelScope, to_thread
from openhands.sdk import Tool
from openhands.sdk.tool import ToolDefinition, register_tool
from openhands.sdk.tool.registry import registered_tool_class

from a2a_gateway.agents.recipe import ToolSpec
from a2a_gateway.agents.tools.definitions import (
    ConfinedFileEditorTool,
    ConfinedGlobTool,
    ConfinedGrepTool,
    InMemoryTaskTrackerTool,
    PooledTerminalTool,
    RunTools,
    bound_tools,
)
from a2a_gateway.errors import ConfigurationError
from a2a_gateway.host.orphans import orphans, takes_in_orphans
from a2a_gateway.host.shell import ShellError
from a2a_gateway.host.shell_pool import ShellPool, shell_environment
from a2a_gateway.host.socket_owners import SocketOwners
from a2a_gateway.runs.model import RunId
from delegate_tool import definition as delegation
from delegate_tool.binding import BoundClient, use_binding

_TOOLS: Final[Mapping[str, type[ToolDefinition[Any, Any]]]] = {
    "terminal": PooledTerminalTool,
    "file_editor": ConfinedFileEditorTool,
    "grep": ConfinedGrepTool,
    "glob": ConfinedGlobTool,
    "task_tracker": InMemoryTaskTrackerTool,
}
_PARAMS: Final = {"terminal": frozenset({"no_change_timeout_seconds", "env"})}
_DELEGATE: Final = "delegate"


class Toolbox:
    """Builds tools, and owns the shells that they use; an async context manager, at whose end no process of an agent is left."""

    def __init__(self, shells_dir: Path, *, shell_pool_size: int, environ: Mapping[str, str]) -> None:
        """`shells_dir` is for the shells' own files; of `environ`, an agent sees only what `shell_environment` lets through."""
        self._shells = ShellPool(shells_dir, shell_pool_size, shell_environment(environ))

    async def __aenter__(self) -> Self:
        """Register the tools with the SDK, and start shells.

        Raises:
            ConfigurationError: this machine has no bash.
        """
        _register()
        try:
            await to_thread.run_sync(self._shells.__enter__)
        except ShellError as error:
            raise ConfigurationError(f"{error} Install bash.") from None
        return self

    async def __aexit__(self, *_: object) -> None:
        with CancelScope(shield=True):
            await to_thread.run_sync(self._shells.__exit__)

    @property
    def processes(self) -> SocketOwners:
        """The processes of the runs that have a shell."""
        return SocketOwners(self._shells.in_use, orphans) if takes_in_orphans() else SocketOwners(self._shells.in_use)

    def specs(self, tools: Sequence[ToolSpec], *, may_delegate: bool) -> list[Tool]:
        """Name a profile's tools as the SDK knows them; the delegation tool is left out of a run that may not delegate.

        Raises:
            ConfigurationError: a tool or a parameter of one is unknown.
        """
        return [_spec(tool) for tool in tools if may_delegate or tool.name != _DELEGATE]

    @contextmanager
    def bind(self, conversation_id: UUID, *, run_id: RunId, workspace_dir: str, delegation: BoundClient | None) -> Iterator[None]:
        """Lend a run's tools what they work with while the SDK initialises its conversation; closing that ends its shell.

        `workspace_dir` must exist.
        """
        with (
            bound_tools(conversation_id, RunTools(self._shells, workspace_dir, run_id)),
            use_binding(conversation_id, delegation),
        ):
            yield


def _spec(tool: ToolSpec) -> Tool:
    if tool.name == _DELEGATE:
        return Tool(name=delegation.TOOL_NAME, params={"withholdable": True})  # `MeteredLLM` leaves it out
    if tool.name not in _TOOLS:
        raise ConfigurationError(f"There is no tool {tool.name!r}; known are {', '.join([*_TOOLS, _DELEGATE])}.")
    unknown = tool.params.keys() - _PARAMS.get(tool.name, frozenset())
    if unknown:
        raise ConfigurationError(f"The tool {tool.name} has no parameter {', '.join(sorted(unknown))}.")
    return Tool(name=_registered_name(tool.name), params=dict(tool.params))


def _registered_name(name: str) -> str:
    # The SDK's own tools are registered under the plain names as soon as they are imported; a second registration only logs a
    # warning.
    return f"a2a_{name}"


def _register() -> None:
    delegation.register()
    for name, tool in _TOOLS.items():
        if registered_tool_class(_registered_name(name)) is not tool:
            register_tool(_registered_name(name), tool)
