"""Give an agent a task, print its answer as it arrives, and cancel the run if the user leaves."""

import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, assert_never

from a2a_gateway.cli.activity import Activity, watch_run
from a2a_gateway.cli.command_error import EXIT_INTERRUPTED, CommandError, RemoteError
from a2a_gateway.cli.screen import StatusLine, can_show_status, note, short_id
from a2a_gateway.errors import RunCancelled, RunNotFound

if TYPE_CHECKING:
    from a2a_gateway.cli.chat_stream import ChatEvent
    from a2a_gateway.cli.gateway_client import RemoteGateway
    from a2a_gateway.cli.gateway_responses import ListedRun

_CANCEL_WITHIN_S: Final = 10.0

type Content = str | Sequence[Mapping[str, object]]
"""The content of a user message: a text, or OpenAI's parts."""


@dataclass(slots=True)
class StreamedAnswer:
    """The answer to a task, as far as it has arrived.

    Attributes:
        run_id: empty until the response has begun.
        usage: the protocol's `usage`; None if the run did not end with an answer.
        error: why there is no complete answer.
        tree: the run as it ended, with all below it; None if there is no run, or if the gateway did not return it.
    """

    run_id: str = ""
    conversation_id: str = ""
    finish_reason: str = ""
    usage: Mapping[str, object] | None = None
    error: CommandError | None = None
    tree: "ListedRun | None" = None
    _pieces: list[str] = field(default_factory=list)

    @property
    def stop_reason(self) -> str:
        """The limit that ended the run, for a person."""
        return (self.tree and self.tree.stop_reason) or self.finish_reason

    @property
    def text(self) -> str:
        """The answer, as far as it has arrived."""
        return "".join(self._pieces)

    def take(self, event: "ChatEvent") -> str:
        """Add the next event, and return the text to print for it."""
        from a2a_gateway.cli.chat_stream import ChatEnd, ChatHeartbeat, ChatReasoning, ChatText, ChatUsage

        match event:
            case ChatText(text):
                self._pieces.append(text)
                return text
            case ChatReasoning() | ChatHeartbeat():
                return ""
            case ChatEnd(reason):
                self.finish_reason = reason
                return "\n"
            case ChatUsage(usage):
                self.usage = usage
                return ""
            case _:
                assert_never(event)


@dataclass(frozen=True, slots=True)
class Display:
    """What is printed while an answer arrives.

    Attributes:
        text: the answer, on standard output.
        run: the short id of the run, on standard error.
        status: what the run is doing, on standard error if that is a terminal.
    """

    text: bool = True
    run: bool = False
    status: bool = True


def stream_answer(
    gateway: "RemoteGateway", model: str, content: Content, headers: Mapping[str, str], display: Display = Display()
) -> StreamedAnswer:
    """Give an agent a task and print its answer as it arrives.

    Ctrl-C, or a closed output, cancels the run and all runs below it. Why there is no complete answer is in the answer's `error`.
    """
    from delegate_tool.protocol.fields import Header

    # The run may have to be cancelled before the response with its id has begun, so it is cancelled by its idempotency key.
    key = uuid.uuid4().hex
    body = {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    answer = StreamedAnswer()
    try:
        _stream(gateway, body, {**headers, Header.IDEMPOTENCY_KEY: key}, answer, display)
    except KeyboardInterrupt:
        answer.error, run_id = _cancel(gateway, key)
        _announce(answer, run_id, model, display)
    except BrokenPipeError:
        with suppress(CommandError):
            gateway.cancel_request(key)  # the reader of the output has closed it
        raise
    except CommandError as error:
        answer.error = error
        if isinstance(error, RemoteError):
            _announce(answer, error.run_id, model, display)
    if answer.run_id:
        with suppress(CommandError):
            answer.tree = gateway.tree(answer.run_id)
            answer.conversation_id = answer.conversation_id or answer.tree.conversation_id or ""
    return answer


def _stream(
    gateway: "RemoteGateway", body: Mapping[str, object], headers: Mapping[str, str], answer: StreamedAnswer, display: Display
) -> None:
    from a2a_gateway.cli.chat_stream import read_chat
    from delegate_tool.protocol.fields import Header

    model = str(body["model"])
    activity = Activity(model)
    with ExitStack() as stack:
        status = stack.enter_context(StatusLine(activity.describe, is_shown=display.status))

        def announce(run_id: str) -> None:
            with status.hide():
                _announce(answer, run_id, model, display)

        follows = display.status and can_show_status()
        if follows or display.run:
            stack.enter_context(watch_run(gateway, headers[Header.IDEMPOTENCY_KEY], activity, announce, follows=follows))
        response = stack.enter_context(gateway.stream(body, headers))
        announce(response.headers.get(Header.RUN_ID, ""))
        answer.conversation_id = response.headers.get(Header.CONVERSATION_ID, "")
        try:
            for event in read_chat(response):
                text = answer.take(event)
                if text and display.text:
                    status.write(text)
        finally:
            if answer.text and not answer.finish_reason and display.text:
                status.write("\n")


def _announce(answer: StreamedAnswer, run_id: str, model: str, display: Display) -> None:
    """Record the id of the run, and print it if it was not known."""
    if run_id and not answer.run_id:
        answer.run_id = run_id
        if display.run:
            note(f"Run {short_id(run_id)} of {model}")


def _cancel(gateway: "RemoteGateway", idempotency_key: str) -> tuple[CommandError, str]:
    """Cancel the run by its idempotency key, because a gateway lets the run of a disconnected client go on for a while.

    Waits for its end, so that its cost is known. Another Ctrl-C ends the wait. Return the error to report, and the run
    id, which is empty if no run was cancelled.
    """
    note("Cancelling the run; Ctrl-C again leaves at once.")
    cancelled = CommandError("Cancelled.", exit_code=EXIT_INTERRUPTED, code=RunCancelled.code)
    try:
        return cancelled, gateway.cancel_request(idempotency_key, within_s=_CANCEL_WITHIN_S).id
    except RemoteError as error:
        if error.code != RunNotFound.code:  # which means that the request had not reached the gateway
            cancelled.remedy = f"The gateway did not confirm it: {error.message}"
    except CommandError:
        cancelled.remedy = "The gateway did not confirm it. `a2a-gateway runs list` shows the state of the run."
    return cancelled, ""
