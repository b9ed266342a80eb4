"""The life of a live run, as tables. Pure: no clock, no tasks, no I/O.

A live run has three state machines, because three questions about it have independent answers:

- `Phase`: what does the gateway do with the run? It moves forward only.
- `Presence`: is a client attached? Clients leave and return, also after the end.
- `Receipt`: how much of the answer has any client received? It only grows.

The phases. A step that has no entry is an error of the gateway: a run that has ended never begins, nothing is published after
its end, only an ended run is closed, and only a closed run is shed.

    phase         meaning                                          begin    publish  cancel      finalize    end    close    shed
    ADMITTED      recorded, waits for its conversation or slot     RUNNING           CANCELLING  FINALIZING         ABORTED
    RUNNING       its agent works                                           (stays)  CANCELLING  FINALIZING         ABORTED
    CANCELLING    asked to stop; its agent may still publish                (stays)  (stays)     FINALIZING         ABORTED
    FINALIZING    its end is being recorded; descendants stop                        (stays)                 ENDED  ABORTED
    ENDED         its outcome is published; its lease is returned                    (stays)                        CLOSED
    CLOSED        only its events are left, for clients to return                    (stays)                                 SHED
    SHED          only a brief copy of the last event is left                        (stays)
    ABORTED       its task was killed before the end, at shutdown                    (stays)

To cancel a run is always allowed, because a client, a peer and a shutdown may ask at the same instant; only the first request
before `FINALIZING` has an effect. `Phase` is what this process does. What the ledger records, and others read, is `RunState`.

Presence and receipt:

    presence      attach    leave         receipt    text    end
    EXPECTED      ATTACHED  LEFT          NOTHING    TEXT    WHOLE
    ATTACHED      (stays)   LEFT          TEXT       (stays) WHOLE
    LEFT          ATTACHED  (stays)       WHOLE      (stays) (stays)

`leave` is the step of the last client that leaves. Two rules join the machines. A client receives the end of an ended run only.
A client that leaves with `TEXT` has pressed stop; one that leaves with `NOTHING` has probably lost its connection
(`keyless_retries` treats them differently).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from a2a_gateway.errors import InternalError


class Phase(StrEnum):
    ADMITTED = "admitted"
    RUNNING = "running"
    CANCELLING = "cancelling"
    FINALIZING = "finalizing"
    ENDED = "ended"
    CLOSED = "closed"
    SHED = "shed"
    ABORTED = "aborted"


class Presence(StrEnum):
    EXPECTED = "expected"
    ATTACHED = "attached"
    LEFT = "left"


class Receipt(StrEnum):
    NOTHING = "nothing"
    TEXT = "text"
    WHOLE = "whole"


class Step(StrEnum):
    """What happens to a run."""

    BEGIN = "begin"
    PUBLISH = "publish"
    CANCEL = "cancel"
    FINALIZE = "finalize"
    END = "end"
    CLOSE = "close"
    SHED = "shed"
    ATTACH = "attach"
    LEAVE = "leave"
    RECEIVE_TEXT = "receive_text"
    RECEIVE_END = "receive_end"


PHASES: Final[Mapping[Phase, Mapping[Step, Phase]]] = {
    Phase.ADMITTED: {
        Step.BEGIN: Phase.RUNNING,
        Step.CANCEL: Phase.CANCELLING,
        Step.FINALIZE: Phase.FINALIZING,
        Step.CLOSE: Phase.ABORTED,
    },
    Phase.RUNNING: {
        Step.PUBLISH: Phase.RUNNING,
        Step.CANCEL: Phase.CANCELLING,
        Step.FINALIZE: Phase.FINALIZING,
        Step.CLOSE: Phase.ABORTED,
    },
    Phase.CANCELLING: {
        Step.PUBLISH: Phase.CANCELLING,
        Step.CANCEL: Phase.CANCELLING,
        Step.FINALIZE: Phase.FINALIZING,
        Step.CLOSE: Phase.ABORTED,
    },
    Phase.FINALIZING: {Step.CANCEL: Phase.FINALIZING, Step.END: Phase.ENDED, Step.CLOSE: Phase.ABORTED},
    Phase.ENDED: {Step.CANCEL: Phase.ENDED, Step.CLOSE: Phase.CLOSED},
    Phase.CLOSED: {Step.CANCEL: Phase.CLOSED, Step.SHED: Phase.SHED},
    Phase.SHED: {Step.CANCEL: Phase.SHED},
    Phase.ABORTED: {Step.CANCEL: Phase.ABORTED},
}
PRESENCES: Final[Mapping[Presence, Mapping[Step, Presence]]] = {
    Presence.EXPECTED: {Step.ATTACH: Presence.ATTACHED, Step.LEAVE: Presence.LEFT},
    Presence.ATTACHED: {Step.ATTACH: Presence.ATTACHED, Step.LEAVE: Presence.LEFT},
    Presence.LEFT: {Step.ATTACH: Presence.ATTACHED, Step.LEAVE: Presence.LEFT},
}
RECEIPTS: Final[Mapping[Receipt, Mapping[Step, Receipt]]] = {
    Receipt.NOTHING: {Step.RECEIVE_TEXT: Receipt.TEXT, Step.RECEIVE_END: Receipt.WHOLE},
    Receipt.TEXT: {Step.RECEIVE_TEXT: Receipt.TEXT, Step.RECEIVE_END: Receipt.WHOLE},
    Receipt.WHOLE: {Step.RECEIVE_TEXT: Receipt.WHOLE, Step.RECEIVE_END: Receipt.WHOLE},
}

_STOPPABLE: Final = frozenset({Phase.ADMITTED, Phase.RUNNING})
_HAS_ENDED: Final = frozenset({Phase.ENDED, Phase.CLOSED, Phase.SHED})


@dataclass(slots=True)
class RunLife:
    """Where one run stands in each of the three machines."""

    phase: Phase = Phase.ADMITTED
    presence: Presence = Presence.EXPECTED
    receipt: Receipt = Receipt.NOTHING

    def advance(self, step: Step) -> None:
        """Take a step of one of the machines.

        Raises:
            InternalError: the run cannot take it where it stands.
        """
        phase = PHASES[self.phase].get(step)
        if phase is not None:
            self.phase = phase
        elif (presence := PRESENCES[self.presence].get(step)) is not None:
            self.presence = presence
        elif (receipt := RECEIPTS[self.receipt].get(step)) is not None and (step is Step.RECEIVE_TEXT or self.has_ended):
            self.receipt = receipt
        else:
            raise InternalError(f"A run that is {self.phase}, and whose client is {self.presence}, cannot {step}.")

    @property
    def is_ending(self) -> bool:
        """Whether the run was asked to stop, or stops by itself: it may delegate no more."""
        return self.phase not in _STOPPABLE

    @property
    def has_ended(self) -> bool:
        """Whether the end of the run is published."""
        return self.phase in _HAS_ENDED

    @property
    def was_stopped_by_client(self) -> bool:
        """Whether the last client left in the middle of the answer: a person pressed stop, rather than lost a connection."""
        return self.presence is Presence.LEFT and self.receipt is Receipt.TEXT
