"""The life of a live run, as tables. Pure: no clock, no tasks, no I/O.

A live run has three state machines, because three questions about it have independent answers:

- `RunPhase`: what does the gateway do with the run? It moves forward only.
- `Presence`: is a client attached? Clients leave and return, also after the end.
- `Receipt`: how much of the answer has any client received? It only grows.

The phases. A step that has no entry is an error of the gateway: a run that has ended never begins, nothing is published after
its end, only an ended run is closed, and only a closed run is shed.

    phase         meaning                                          begin    publish  cancel      finalize    end    close    shed
    ADMITTED      recorded; waits for its conversation or slot     RUNNING           CANCELLING  FINALIZING         ABORTED
    RUNNING       its agent works                                           (stays)  CANCELLING  FINALIZING         ABORTED
    CANCELLING    asked to stop; its agent may still publish                (stays)  (stays)     FINALIZING         ABORTED
    FINALIZING    its end is being recorded; descendants stop                        (stays)                 ENDED  ABORTED
    ENDED         its outcome is published; its lease is returned                    (stays)                        CLOSED
    CLOSED        its task has ended; its events are kept                            (stays)                                 SHED
    SHED          only a brief copy of its last event is kept                        (stays)
    ABORTED       its task was killed before its end                                 (stays)

To cancel a run is always allowed, because a client, a peer and a shutdown may ask at the same instant; only the first request
before `FINALIZING` has an effect. `RunPhase` is what this process does. What the ledger records, and others read, is `RunState`.

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


class RunPhase(StrEnum):
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


class LifeStep(StrEnum):
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


PHASES: Final[Mapping[RunPhase, Mapping[LifeStep, RunPhase]]] = {
    RunPhase.ADMITTED: {
        LifeStep.BEGIN: RunPhase.RUNNING,
        LifeStep.CANCEL: RunPhase.CANCELLING,
        LifeStep.FINALIZE: RunPhase.FINALIZING,
        LifeStep.CLOSE: RunPhase.ABORTED,
    },
    RunPhase.RUNNING: {
        LifeStep.PUBLISH: RunPhase.RUNNING,
        LifeStep.CANCEL: RunPhase.CANCELLING,
        LifeStep.FINALIZE: RunPhase.FINALIZING,
        LifeStep.CLOSE: RunPhase.ABORTED,
    },
    RunPhase.CANCELLING: {
        LifeStep.PUBLISH: RunPhase.CANCELLING,
        LifeStep.CANCEL: RunPhase.CANCELLING,
        LifeStep.FINALIZE: RunPhase.FINALIZING,
        LifeStep.CLOSE: RunPhase.ABORTED,
    },
    RunPhase.FINALIZING: {LifeStep.CANCEL: RunPhase.FINALIZING, LifeStep.END: RunPhase.ENDED, LifeStep.CLOSE: RunPhase.ABORTED},
    RunPhase.ENDED: {LifeStep.CANCEL: RunPhase.ENDED, LifeStep.CLOSE: RunPhase.CLOSED},
    RunPhase.CLOSED: {LifeStep.CANCEL: RunPhase.CLOSED, LifeStep.SHED: RunPhase.SHED},
    RunPhase.SHED: {LifeStep.CANCEL: RunPhase.SHED},
    RunPhase.ABORTED: {LifeStep.CANCEL: RunPhase.ABORTED},
}
PRESENCES: Final[Mapping[Presence, Mapping[LifeStep, Presence]]] = {
    Presence.EXPECTED: {LifeStep.ATTACH: Presence.ATTACHED, LifeStep.LEAVE: Presence.LEFT},
    Presence.ATTACHED: {LifeStep.ATTACH: Presence.ATTACHED, LifeStep.LEAVE: Presence.LEFT},
    Presence.LEFT: {LifeStep.ATTACH: Presence.ATTACHED, LifeStep.LEAVE: Presence.LEFT},
}
RECEIPTS: Final[Mapping[Receipt, Mapping[LifeStep, Receipt]]] = {
    Receipt.NOTHING: {LifeStep.RECEIVE_TEXT: Receipt.TEXT, LifeStep.RECEIVE_END: Receipt.WHOLE},
    Receipt.TEXT: {LifeStep.RECEIVE_TEXT: Receipt.TEXT, LifeStep.RECEIVE_END: Receipt.WHOLE},
    Receipt.WHOLE: {LifeStep.RECEIVE_TEXT: Receipt.WHOLE, LifeStep.RECEIVE_END: Receipt.WHOLE},
}

_STOPPABLE: Final = frozenset({RunPhase.ADMITTED, RunPhase.RUNNING})
_HAS_ENDED: Final = frozenset({RunPhase.ENDED, RunPhase.CLOSED, RunPhase.SHED})


@dataclass(slots=True)
class RunLife:
    """Where one run stands in each of the three machines."""

    phase: RunPhase = RunPhase.ADMITTED
    presence: Presence = Presence.EXPECTED
    receipt: Receipt = Receipt.NOTHING

    def advance(self, step: LifeStep) -> None:
        """Take a step of one of the machines.

        Raises:
            InternalError: the run cannot take it where it stands.
        """
        phase = PHASES[self.phase].get(step)
        if phase is not None:
            self.phase = phase
        elif (presence := PRESENCES[self.presence].get(step)) is not None:
            self.presence = presence
        elif (receipt := RECEIPTS[self.receipt].get(step)) is not None and (step is LifeStep.RECEIVE_TEXT or self.has_ended):
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
