"""Build the tools of agents from the profile's list, with executors of this gateway.

Owns the pool of shells. Agents have no other tools than those of this table, and delegation.
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
    bind_tools,
)
from a2a_gateway.errors import ConfigurationError
from a2a_gateway.host.orphans import is_parent_of_orphans, live_orphans
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


class LocalToolbox:
    """Builds tools and owns the shells that they use; an async context manager that ends all processes of agents on exit."""

    def __init__(
        self, shells_dir: Path, *, shell_pool_size: int, environ: Mapping[str, str], protected: Sequence[Path] = ()
    ) -> None:
        """`shells_dir` is for the shells' own files; a shell gets only the part of `environ` that `shell_environment` returns.

        `protected`: see `RunTools`.
        """
        self._protected = protected
        self._shells = ShellPool(shells_dir, shell_pool_size, shell_environment(environ))

    async def __aenter__(self) -> Self:
        """Register the tools with the SDK and start shells.

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
        return SocketOwners(self._shells.in_use, live_orphans) if is_parent_of_orphans() else SocketOwners(self._shells.in_use)

    def specs(self, tools: Sequence[ToolSpec], *, may_delegate: bool) -> list[Tool]:
        """Return the SDK's specifications of a profile's tools, without the delegation tool if the run may not delegate.

        Raises:
            ConfigurationError: a tool or a parameter of one is unknown.
        """
        return [_spec(tool) for tool in tools if may_delegate or tool.name != _DELEGATE]

    @contextmanager
    def bind(self, conversation_id: UUID, *, run_id: RunId, workspace_dir: str, delegation: BoundClient | None) -> Iterator[None]:
        """Make the run's shells and client available to its tools while the SDK initialises the conversation.

        `workspace_dir` must exist. Closing the conversation ends its shell.
        """
        with (
            bind_tools(conversation_id, RunTools(self._shells, workspace_dir, run_id, self._protected)),
            use_binding(conversation_id, delegation),
        ):
            yield


def _spec(tool: ToolSpec) -> Tool:
    if tool.name == _DELEGATE:
        return Tool(name=delegation.TOOL_NAME, params={"withholdable": True})  # `MeteredLLM` can leave it out of a call
    if tool.name not in _TOOLS:
        raise ConfigurationError(f"There is no tool {tool.name!r}; the tools are {', '.join([*_TOOLS, _DELEGATE])}.")
    unknown = tool.params.keys() - _PARAMS.get(tool.name, frozenset())
    if unknown:
        raise ConfigurationError(f"The tool {tool.name} has no parameter {', '.join(sorted(unknown))}.")
    return Tool(name=_registered_name(tool.name), params=dict(tool.params))


def _registered_name(name: str) -> str:
    # Importing the SDK's own tools registers them under the plain names; a second registration would log a warning.
    return f"a2a_{name}"


def _register() -> None:
    delegation.register()
    for name, tool in _TOOLS.items():
        if registered_tool_class(_registered_name(name)) is not tool:
            register_tool(_registered_name(name), tool)
