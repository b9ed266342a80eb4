"""Ids as people type them: `last`, or the beginning of an id. The gateway looks only among what the key may see."""

import re
from typing import TYPE_CHECKING, Final

from a2a_gateway.cli.command_error import EXIT_REFUSED, EXIT_USAGE, CommandError
from a2a_gateway.errors import ConversationNotFound, RunNotFound

if TYPE_CHECKING:
    from a2a_gateway.cli.gateway_client import RemoteGateway
    from a2a_gateway.cli.gateway_responses import ListedRun

LAST: Final = "last"
_LEAST_CHARS: Final = 4
_UUID_CHARS: Final = 36
_MOST_TREES: Final = 100
_PART_OF_ID: Final = re.compile(r"[0-9a-f][0-9a-f-]{0,34}")
_SHOWN: Final = 10


def find_run(gateway: "RemoteGateway", text: str) -> str:
    """Return the id of the run that a text names: an id, the beginning of one, or `last`, the key's newest root run.

    Raises:
        CommandError: there is no such run, or several.
    """
    if text == LAST:
        return _newest(gateway.recent_runs(1)).id
    if not _is_short(text):
        return text
    found = gateway.find_runs(text, _SHOWN + 1)
    return _the_one(text, {run.id: f"{run.agent}, {run.state}" for run in found}, "run")


def find_conversation(gateway: "RemoteGateway", model: str, text: str) -> str:
    """Return the id of a conversation with an agent: an id, the beginning of one, or `last`. Only of the key's latest trees.

    Raises:
        CommandError: there is no such conversation, or several.
    """
    from delegate_tool.protocol.values import full_model_id

    if text != LAST and not _is_short(text):
        return text
    agent = full_model_id(model)
    runs = [run for run in gateway.recent_runs(_MOST_TREES) if run.agent == agent and run.error_code != ConversationNotFound.code]
    ids = [run.conversation_id for run in runs if run.conversation_id]
    if text != LAST:
        return _the_one(text, {each: agent for each in ids if each.startswith(text)}, "conversation")
    if not ids:
        raise CommandError(
            f"None of the latest {_MOST_TREES} trees of this key is a conversation with {agent}.",
            "Leave --conversation out to begin one, or give its id.",
            exit_code=EXIT_USAGE,
        )
    return ids[0]


def _is_short(text: str) -> bool:
    """Return whether a text is the beginning of an id. What is neither that nor an id is left to the gateway to refuse.

    Raises:
        CommandError: it is too short.
    """
    if len(text) >= _UUID_CHARS or not _PART_OF_ID.fullmatch(text):
        return False
    if len(text) < _LEAST_CHARS:
        raise CommandError(
            f"{text!r} is too short for an id.", f"Give at least its first {_LEAST_CHARS} characters.", exit_code=EXIT_USAGE
        )
    return True


def _newest(trees: "list[ListedRun]") -> "ListedRun":
    if not trees:
        raise _not_found("This key has no runs yet, so there is no last one.", "`a2a-gateway ask MODEL TASK` begins one.")
    return trees[0]


def _the_one(text: str, found: dict[str, str], kind: str) -> str:
    """Return the only id that was found; `found` describes each."""
    match list(found):
        case [only]:
            return only
        case []:
            message = f"No {kind} of this key has an id that begins with {text!r}."
            raise _not_found(message, "`a2a-gateway runs list` shows the latest trees of this key.")
        case several:
            shown = [f"{each} ({found[each]})" for each in several[:_SHOWN]]
            more = " and others" if len(several) > _SHOWN else ""
            raise CommandError(
                f"Several {kind}s have an id that begins with {text!r}: {', '.join(shown)}{more}.",
                "Give more of it.",
                exit_code=EXIT_USAGE,
            )


def _not_found(message: str, remedy: str) -> CommandError:
    return CommandError(message, remedy, exit_code=EXIT_REFUSED, code=RunNotFound.code)
