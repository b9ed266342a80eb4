"""How a delegation ended. Standard library only; below the tables that refer to it."""

from enum import StrEnum


class DelegationStatus(StrEnum):
    """How a delegation ended, as the delegating agent needs to know it."""

    FINISHED = "finished"  # the agent answered
    PARTIAL = "partial"  # a limit ended it, and there is text of the answer
    REFUSED = "refused"  # it never started
    FAILED = "failed"  # it broke off; the answer, if any, is the text received by then
    CANCELLED = "cancelled"
