"""The SDK's tools with executors of this gateway. Names, schemas and descriptions are the SDK's.

To run tools in a sandbox, replace the executors here, and only here. The SDK builds a tool in threads of its own, from parameters
that it persists. So a tool finds the objects of its run by the conversation's id (`bind_tools`), as in `delegate_tool.binding`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Self
from uuid import UUID

from openhands.sdk.tool import Action, DeclaredResources, ToolAnnotations
from openhands.tools.file_editor import FileEditorAction, FileEditorObservation, FileEditorTool
from openhands.tools.file_editor.definition import TOOL_DESCRIPTION as FILE_EDITOR_DESCRIPTION
from openhands.tools.glob import GlobAction, GlobObservation, GlobTool
from openhands.tools.glob.definition import TOOL_DESCRIPTION as GLOB_DESCRIPTION
from openhands.tools.grep import GrepAction, GrepObservation, GrepTool
from openhands.tools.grep.definition import TOOL_DESCRIPTION as GREP_DESCRIPTION
from openhands.tools.task_tracker import TaskTrackerAction, TaskTrackerObservation, TaskTrackerTool
from openhands.tools.task_tracker.definition import TASK_TRACKER_DESCRIPTION, TaskTrackerExecutor
from openhands.tools.terminal import TerminalAction, TerminalObservation, TerminalTool
from openhands.tools.terminal.constants import NO_CHANGE_TIMEOUT_SECONDS
from openhands.tools.terminal.descriptions import UNIX_TOOL_DESCRIPTION

from a2a_gateway.agents.tools.file_editor import ConfinedFileEditor
from a2a_gateway.agents.tools.search import ConfinedGlob, ConfinedGrep
from a2a_gateway.agents.tools.terminal import PooledTerminal
from a2a_gateway.host.shell_pool import ShellPool
from a2a_gateway.runs.model import RunId

if TYPE_CHECKING:
    from openhands.sdk.conversation.state import ConversationState


@dataclass(frozen=True, slots=True)
class RunTools:
    """The objects that the tools of one run need.

    Attributes:
        protected: the gateway's own settings, which the file editor does not change wherever the agent works.
    """

    shells: ShellPool
    workspace_dir: str
    run_id: RunId
    protected: Sequence[Path] = ()


_VIEWS_IMAGES: Final = "* If `path` is an image file (.png, .jpg, .jpeg, .gif, .webp, .bmp), `view` displays the image content\n"

# The only state at module level, because `ToolDefinition.create` receives only the conversation's state. Every conversation has
# a key of its own.
_BOUND: Final[dict[UUID, RunTools]] = {}


@contextmanager
def bind_tools(conversation_id: UUID, tools: RunTools) -> Iterator[None]:
    """Make the run's objects available to the tools of one conversation while the SDK initialises them.

    Raises:
        ValueError: another caller is initialising the conversation.
    """
    if _BOUND.setdefault(conversation_id, tools) is not tools:
        raise ValueError(f"The conversation {conversation_id} is bound already.")
    try:
        yield
    finally:
        del _BOUND[conversation_id]


def _find_bound(conv_state: "ConversationState") -> RunTools:
    tools = _BOUND.get(conv_state.id)
    if tools is None:
        raise LookupError("This tool belongs to a gateway's run: initialise the conversation within LocalToolbox.bind.")
    return tools


class PooledTerminalTool(TerminalTool):
    """`terminal`, in a shell of the pool."""

    name: ClassVar[str] = "terminal"

    @classmethod
    def create(  # type: ignore[override]  # fewer parameters: shell, backend and user are the gateway's choice
        cls,
        conv_state: "ConversationState",
        *,
        no_change_timeout_seconds: float = NO_CHANGE_TIMEOUT_SECONDS,
        env: Mapping[str, str] | None = None,
    ) -> Sequence[Self]:
        """Make the tool for one run; a shell is started at the first command."""
        run = _find_bound(conv_state)
        return [
            cls(
                description=UNIX_TOOL_DESCRIPTION,
                action_type=TerminalAction,
                observation_type=TerminalObservation,
                annotations=ToolAnnotations(
                    title="terminal", readOnlyHint=False, destructiveHint=True, idempotentHint=False, openWorldHint=True
                ),
                executor=PooledTerminal(
                    run.shells, run.workspace_dir, run_id=run.run_id, quiet_s=no_change_timeout_seconds, env=env
                ),
            )
        ]


class ConfinedFileEditorTool(FileEditorTool):
    """`file_editor`, confined to the workspace."""

    name: ClassVar[str] = "file_editor"

    def declared_resources(self, action: Action) -> DeclaredResources:
        """Declare the file by its resolved path in the workspace, so that edits of different files may run in parallel."""
        if not isinstance(action, FileEditorAction) or not isinstance(self.executor, ConfinedFileEditor):
            return DeclaredResources(keys=(), declared=False)
        return DeclaredResources(keys=(f"file:{self.executor.resolve_path(action.path)}",), declared=True)

    @classmethod
    def create(cls, conv_state: "ConversationState") -> Sequence[Self]:
        """Make the tool for one run."""
        run, vision = _find_bound(conv_state), conv_state.agent.llm.vision_is_active()
        description = (
            f"{FILE_EDITOR_DESCRIPTION}{_VIEWS_IMAGES if vision else ''}\n"
            f"Your current working directory is: {run.workspace_dir}\nOnly files inside it can be viewed and edited."
        )
        return [
            cls(
                description=description,
                action_type=FileEditorAction,
                observation_type=FileEditorObservation,
                annotations=ToolAnnotations(
                    title="file_editor", readOnlyHint=False, destructiveHint=True, idempotentHint=False, openWorldHint=False
                ),
                executor=ConfinedFileEditor(run.workspace_dir, vision=vision, protected=run.protected),
            )
        ]


class ConfinedGrepTool(GrepTool):
    """`grep`, confined to the workspace; starts no program."""

    name: ClassVar[str] = "grep"

    @classmethod
    def create(cls, conv_state: "ConversationState") -> Sequence[Self]:
        """Make the tool for one run."""
        run = _find_bound(conv_state)
        return [
            cls(
                description=f"{GREP_DESCRIPTION}\n\nYour current working directory is: {run.workspace_dir}\nOnly it is searched.",
                action_type=GrepAction,
                observation_type=GrepObservation,
                annotations=_read_only("grep"),
                executor=ConfinedGrep(run.workspace_dir),
            )
        ]


class ConfinedGlobTool(GlobTool):
    """`glob`, confined to the workspace; does not change the process's directory."""

    name: ClassVar[str] = "glob"

    def declared_resources(self, action: Action) -> DeclaredResources:
        """Declare that a search uses no resource that others change, so that searches may run in parallel."""
        return DeclaredResources(keys=(), declared=True)

    @classmethod
    def create(cls, conv_state: "ConversationState") -> Sequence[Self]:
        """Make the tool for one run."""
        run = _find_bound(conv_state)
        return [
            cls(
                description=f"{GLOB_DESCRIPTION}\n\nYour current working directory is: {run.workspace_dir}\nOnly it is searched.",
                action_type=GlobAction,
                observation_type=GlobObservation,
                annotations=_read_only("glob"),
                executor=ConfinedGlob(run.workspace_dir),
            )
        ]


class InMemoryTaskTrackerTool(TaskTrackerTool):
    """`task_tracker`, which writes nothing to disk."""

    name: ClassVar[str] = "task_tracker"

    @classmethod
    def create(cls, conv_state: "ConversationState") -> Sequence[Self]:
        """Make the tool for one run."""
        return [
            cls(
                description=TASK_TRACKER_DESCRIPTION,
                action_type=TaskTrackerAction,
                observation_type=TaskTrackerObservation,
                annotations=ToolAnnotations(readOnlyHint=False, destructiveHint=False, idempotentHint=True, openWorldHint=False),
                executor=TaskTrackerExecutor(save_dir=None),
            )
        ]


def _read_only(title: str) -> ToolAnnotations:
    return ToolAnnotations(title=title, readOnlyHint=True, destructiveHint=False, idempotentHint=True, openWorldHint=False)
