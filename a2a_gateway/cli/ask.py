"""`a2a-gateway ask`: run an agent on a running gateway, stream its answer, then show the tree of runs below it."""

import sys
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, assert_never

import typer

from a2a_gateway.cli.command_error import EXIT_INTERRUPTED, EXIT_LIMITED, CommandError
from a2a_gateway.cli.options import JsonOption, KeyOption, UrlOption, parse_budget
from a2a_gateway.cli.runs import draw_tree
from a2a_gateway.cli.screen import note, show, show_json, show_piece, show_spinner

if TYPE_CHECKING:
    from a2a_gateway.cli.chat_stream import ChatEvent
    from a2a_gateway.cli.gateway_client import RemoteGateway


def ask(
    model: Annotated[str, typer.Argument(help="The agent, such as openhands_default.")],
    task: Annotated[str, typer.Argument(help="The task; - reads it from standard input.")],
    budget_usd: Annotated[str | None, typer.Option(metavar="USD", help="What it and all its delegations may cost.")] = None,
    max_depth: Annotated[int | None, typer.Option(min=0, help="Greatest depth of the tree; 0 forbids delegation.")] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0.001, help="Time for it and all its delegations.")
    ] = None,
    conversation: Annotated[str | None, typer.Option(metavar="ID", help="Continue this conversation.")] = None,
    json_output: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Give an agent a task, and stream its answer. Ctrl-C cancels it.

    Exit codes: 0 answered, 1 failed, 2 wrong usage, 3 ended by a limit, with the answer so far, 4 refused, 130 cancelled.
    """
    from a2a_gateway.cli.gateway_client import connect
    from delegate_tool.protocol.context import DelegationContext, encode_headers

    context = DelegationContext(
        budget_micro_usd=parse_budget(budget_usd), max_depth=max_depth, timeout_s=timeout, conversation_id=conversation
    )
    question = sys.stdin.read() if task == "-" else task
    with connect(url, key) as gateway:
        answer = stream_answer(gateway, model, question, encode_headers(context), quiet=json_output)
        tree = gateway.tree(answer.run_id)
    if json_output:
        show_json({"answer": answer.text, "finish_reason": answer.finish_reason, "run": tree.model_dump(mode="json")})
    else:
        show()
        show(draw_tree(tree))
        note(f"Continue with: a2a-gateway ask {model} --conversation {answer.conversation_id} …")
    if answer.finish_reason != "stop":
        note(f"Ended by a limit: {tree.stop_reason or answer.finish_reason}.")
        raise typer.Exit(EXIT_LIMITED)


@dataclass(slots=True)
class StreamedAnswer:
    """The answer to a task, as far as it has arrived. `run_id` is empty until the response has begun."""

    run_id: str = ""
    conversation_id: str = ""
    finish_reason: str = ""
    _pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The answer, as far as it has arrived."""
        return "".join(self._pieces)

    def take(self, event: "ChatEvent") -> str:
        """Add the next event, and return the text to print for it."""
        from a2a_gateway.cli.chat_stream import ChatEnd, ChatHeartbeat, ChatReasoning, ChatText

        match event:
            case ChatText(text):
                self._pieces.append(text)
                return text
            case ChatReasoning() | ChatHeartbeat():
                return ""
            case ChatEnd(reason):
                self.finish_reason = reason
                return "\n"
            case _:
                assert_never(event)


def stream_answer(
    gateway: "RemoteGateway", model: str, task: str, headers: Mapping[str, str], *, quiet: bool = False
) -> StreamedAnswer:
    """Give an agent a task and print its answer as it arrives. Ctrl-C, or a closed output, cancels the run and all runs below it.

    Raises:
        CommandError: the run was refused, failed or was cancelled.
    """
    from a2a_gateway.cli.chat_stream import ChatHeartbeat, read_chat
    from delegate_tool.protocol.fields import Header

    # The run may have to be cancelled before the response with its id has begun, so it is cancelled by its idempotency key.
    key = uuid.uuid4().hex
    headers = {**headers, Header.IDEMPOTENCY_KEY: key}
    body = {"model": model, "messages": [{"role": "user", "content": task}], "stream": True}
    answer = StreamedAnswer()
    try:
        with show_spinner(f"{model} is at work") as spinner, gateway.stream(body, headers) as response:
            answer.run_id = response.headers.get(Header.RUN_ID, "")
            answer.conversation_id = response.headers.get(Header.CONVERSATION_ID, "")
            for event in read_chat(response):
                text = answer.take(event)
                if text and not quiet:
                    spinner.hide()
                    show_piece(text)
                elif isinstance(event, ChatHeartbeat):
                    spinner.show()
    except KeyboardInterrupt:
        _cancel(gateway, key)
        raise CommandError("Cancelled.", exit_code=EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        _cancel(gateway, key)  # the reader of the output has closed it
        raise
    finally:
        if answer.text and not answer.finish_reason and not quiet:
            show_piece("\n")
    return answer


def _cancel(gateway: "RemoteGateway", idempotency_key: str) -> None:
    """Cancel the run by its idempotency key, because a gateway lets the run of a disconnected client go on for a while."""
    with suppress(CommandError):
        gateway.cancel_request(idempotency_key)
