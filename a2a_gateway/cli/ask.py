"""`a2a-gateway ask`: run an agent on a running gateway, stream its answer, then show the tree of runs below it."""

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from a2a_gateway.cli.chat import converse
from a2a_gateway.cli.command_error import EXIT_LIMITED
from a2a_gateway.cli.options import JsonOption, KeyOption, UrlOption
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
from a2a_gateway.cli.screen import note, short_id, show, show_json
from a2a_gateway.cli.short_ids import find_conversation
from a2a_gateway.cli.streamed_answer import Content, Display, StreamedAnswer, stream_answer
from a2a_gateway.cli.task import add_files, read_task

if TYPE_CHECKING:
    from a2a_gateway.cli.gateway_client import RemoteGateway
    from delegate_tool.protocol.context import DelegationContext


def ask(
    model: ModelArgument,
    task: Annotated[
        str | None,
        typer.Argument(
            metavar="TASK", help="The task. Without it, or with -, standard input is read; on a terminal a chat begins."
        ),
    ] = None,
    budget_usd: BudgetOption = None,
    max_depth: MaxDepthOption = None,
    timeout: TimeoutOption = None,
    conversation: ConversationOption = None,
    workspace: WorkspaceOption = None,
    file: FileOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the answer and errors only.")] = False,
    json_output: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Give an agent a task, and stream its answer. Ctrl-C cancels it.

    If standard output is no terminal, it has the answer alone, and standard error the tree of runs and their cost.

    With --json standard output has one object, also after a failure.

    Exit codes: 0 answered, 1 failed, 2 wrong usage, 3 ended by a limit, with the answer so far, 4 refused, 130 cancelled.
    """
    from a2a_gateway.cli.gateway_client import connect

    context = build_context(budget_usd, max_depth, timeout)
    files = file or []
    with connect(url, key) as gateway:
        context = replace(context, workspace=find_workspace(gateway, workspace))
        if conversation is not None:
            context = replace(context, conversation_id=find_conversation(gateway, model, conversation))
        if task is None and not json_output and sys.stdin.isatty() and sys.stdout.isatty():
            converse(gateway, model, context, files)
            return
        content = add_files(read_task(task), files)
        answer = _ask(gateway, model, content, context, quiet=quiet, json_output=json_output)
    if answer.finish_reason != "stop":
        raise typer.Exit(EXIT_LIMITED)


def _ask(
    gateway: "RemoteGateway", model: str, content: Content, context: "DelegationContext", *, quiet: bool, json_output: bool
) -> StreamedAnswer:
    """Run an agent, and print its answer, its tree and its cost.

    Raises:
        CommandError: the run was refused, failed or was cancelled.
    """
    from delegate_tool.protocol.context import encode_headers

    display = Display(text=not json_output, run=not quiet, status=not quiet)
    answer = stream_answer(gateway, model, content, encode_headers(context), display)
    if not (quiet or json_output) and answer.tree is not None:
        _show_tree(answer)
    if answer.error is not None:
        answer.error.outcome = _as_json(answer)
        raise answer.error
    if json_output:
        show_json({**_as_json(answer), "error": None})
    if quiet:
        return answer
    if answer.finish_reason != "stop":
        note(f"Ended by a limit: {answer.stop_reason}.")
    if not json_output:
        note(f"Continue with: a2a-gateway ask {model} --conversation {short_id(answer.conversation_id)} …")
    return answer


def _show_tree(answer: StreamedAnswer) -> None:
    """Show the tree below the answer; on standard error if standard output is no terminal, and so holds the answer alone."""
    is_result = sys.stdout.isatty() and answer.error is None
    if is_result:
        show()
    if answer.tree is not None:
        show(draw_tree(answer.tree), stderr=not is_result)


def _as_json(answer: StreamedAnswer) -> dict[str, object]:
    """Return what `--json` prints. What is not known, such as the run of a refused request, is null."""
    tree = answer.tree
    return {
        "answer": answer.text,
        "finish_reason": answer.finish_reason or None,
        "state": tree.state if tree else None,
        "run_id": answer.run_id or None,
        "conversation_id": answer.conversation_id or None,
        "cost_usd": tree.cost.tree if tree else None,
        "cost_complete": tree.cost.complete if tree else None,
        "usage": answer.usage,
        "run": tree.model_dump(mode="json") if tree else None,
    }
