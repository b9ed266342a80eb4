"""`a2a-gateway chat`: a conversation with an agent on a terminal, one task after the other."""

import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from operator import is_
from pathlib import Path
from typing import TYPE_CHECKING, Final

from a2a_gateway.cli.command_error import EXIT_USAGE, CommandError
from a2a_gateway.cli.options import KeyOption, UrlOption
from a2a_gateway.cli.run_options import (
    BudgetOption,
    ConversationOption,
    FileOption,
    MaxDepthOption,
    ModelArgument,
    TimeoutOption,
    WorkspaceOption,
    build_context,
    find_workspace,
)
from a2a_gateway.cli.runs import draw_tree
from a2a_gateway.cli.screen import format_cost, note, short_id, show, show_error
from a2a_gateway.cli.short_ids import find_conversation
from a2a_gateway.cli.streamed_answer import Content, StreamedAnswer, stream_answer
from a2a_gateway.cli.task import add_files
from a2a_gateway.errors import ConversationNotFound, RunCancelled

if TYPE_CHECKING:
    from a2a_gateway.cli.gateway_client import RemoteGateway
    from a2a_gateway.cli.gateway_responses import ListedRun
    from delegate_tool.protocol.context import DelegationContext

_COMMAND: Final = re.compile(r"/[a-z?]+")
_NOTICE_EVERY_S: Final = 0.1
_HELP: Final = """\
/cost  what the answers of this chat have cost
/tree  the tree of runs of the latest answer
/new   begin a new conversation
/quit  leave, as Ctrl-D does
Ctrl-C cancels the answer under way; at the prompt it leaves."""


def chat(
    model: ModelArgument,
    budget_usd: BudgetOption = None,
    max_depth: MaxDepthOption = None,
    timeout: TimeoutOption = None,
    conversation: ConversationOption = None,
    workspace: WorkspaceOption = None,
    file: FileOption = None,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Talk with an agent on a terminal. The options hold for each task, and the files go with the first."""
    from a2a_gateway.cli.gateway_client import connect

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CommandError(
            "A chat needs a terminal for its input and its output.", f"Use `a2a-gateway ask {model}` here.", exit_code=EXIT_USAGE
        )
    context = build_context(budget_usd, max_depth, timeout)
    with connect(url, key) as gateway:
        context = replace(context, workspace=find_workspace(gateway, workspace))
        if conversation is not None:
            context = replace(context, conversation_id=find_conversation(gateway, model, conversation))
        converse(gateway, model, context, file or [])


def converse(gateway: "RemoteGateway", model: str, context: "DelegationContext", files: Sequence[Path]) -> None:
    """Read tasks from the terminal and print the agent's answers until the user leaves.

    Raises:
        CommandError: a file cannot be added to the first task.
    """
    add_files("", files)  # a file that cannot be read is an error before the user has typed
    with suppress(ImportError):
        import readline  # noqa: F401  # `input` then edits lines, and has a history
    note(f"Chat with {model}. /help lists the commands, Ctrl-D leaves.")
    _Chat(gateway, model, context, files).run()


@dataclass(slots=True)
class _Chat:
    """A chat. `context` has the limits of each task, and the conversation once there is one."""

    gateway: "RemoteGateway"
    model: str
    context: "DelegationContext"
    files: Sequence[Path]
    trees: "list[ListedRun]" = field(default_factory=list)

    def run(self) -> None:
        with suppress(KeyboardInterrupt):
            self._read_tasks()
        if self.context.conversation_id is not None:
            note(f"Continue with: a2a-gateway chat {self.model} --conversation {short_id(self.context.conversation_id)}")

    def _read_tasks(self) -> None:
        while (line := _read_line()) is not None:
            task = line.strip()
            if _COMMAND.fullmatch(task):
                if task in ("/quit", "/exit"):
                    break
                self._commands().get(task, _show_unknown)()
            elif task:
                self._give(task)

    def _commands(self) -> Mapping[str, Callable[[], None]]:
        return {
            "/help": _show_help,
            "/?": _show_help,
            "/cost": self._show_cost,
            "/tree": self._show_tree,
            "/new": self._begin_anew,
        }

    def _give(self, task: str) -> None:
        from delegate_tool.protocol.text import well_formed

        content = add_files(well_formed(task), self.files)
        self.files = ()
        answer = self._stream(content)
        if answer.error is not None and answer.error.code == ConversationNotFound.code:
            note("The conversation is gone. A new one begins.")
            self._forget_conversation()
            answer = self._stream(content)
        if answer.conversation_id:
            self.context = replace(self.context, conversation_id=answer.conversation_id)
        if answer.tree is not None:
            self.trees.append(answer.tree)
            note(_summarise(answer.tree))
        if answer.error is not None and (answer.tree is None or answer.error.code != RunCancelled.code):
            show_error(answer.error.message, answer.error.remedy)
        elif answer.error is None and answer.finish_reason != "stop":
            note(f"Ended by a limit: {answer.stop_reason}.")

    def _stream(self, content: Content) -> StreamedAnswer:
        from delegate_tool.protocol.context import encode_headers

        return stream_answer(self.gateway, self.model, content, encode_headers(self.context))

    def _show_cost(self) -> None:
        costs = [tree.cost for tree in self.trees]
        total = sum((Decimal(cost.tree) for cost in costs), Decimal(0))
        shown = format_cost(f"{total:.6f}", complete=all(cost.complete for cost in costs))
        show(f"Answers: {len(costs)}, cost: {shown}")

    def _show_tree(self) -> None:
        if self.trees:
            show(draw_tree(self.trees[-1]))
        else:
            note("There is no answer yet.")

    def _begin_anew(self) -> None:
        self._forget_conversation()
        note("The next task begins a new conversation.")

    def _forget_conversation(self) -> None:
        self.context = replace(self.context, conversation_id=None)


def _read_line() -> str | None:
    """Return the next line of the user; None if the user leaves."""
    try:
        with _signals_noticed():
            return input("> ")
    except (EOFError, KeyboardInterrupt):
        show()
        return None
    except UnicodeDecodeError:
        note("That was not UTF-8 text.")
        return ""


@contextmanager
def _signals_noticed() -> Iterator[None]:
    """Wake readline ten times a second, so that it notices Ctrl-C.

    It looks for signals only when one interrupts its wait for a key. A signal that comes just before the wait would count only
    after the next one, or after Enter.
    """
    previous = signal.signal(signal.SIGALRM, is_)  # which does nothing, and no Python that Ctrl-C could interrupt
    signal.setitimer(signal.ITIMER_REAL, _NOTICE_EVERY_S, _NOTICE_EVERY_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _summarise(tree: "ListedRun") -> str:
    runs = f" · {1 + tree.descendants} runs" if tree.descendants else ""
    cost = format_cost(tree.cost.tree, complete=tree.cost.complete)
    return f"{tree.state} · {tree.seconds:.1f} s · {cost}{runs} · run {short_id(tree.id)}"


def _show_help() -> None:
    show(_HELP)


def _show_unknown() -> None:
    note("There is no such command. /help lists them.")
