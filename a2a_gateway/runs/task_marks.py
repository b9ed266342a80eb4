"""Task marks: by these a gateway detects that an agent is asked to do a task on which it works already, further up the tree.

A mark is a digest of agent and task, keyed with a secret of this process. So it can travel through other gateways, in the trail
of a request, and reveals nothing to them. Only the process that made a mark can compare it, and the runs that it stands for end
with that process. The task is compared without what an agent varies when it passes a task on: white space, invisible characters,
and the context that the delegation tool appends.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from typing import Final

from delegate_tool.protocol.context import CONTEXT_HEADING

LONGEST_TRAIL: Final = 32
"""How many marks a request passes on: the nearest ones. Longer chains are bounded by `max_depth`."""
_INVISIBLE: Final = re.compile(
    # Control characters, and Unicode's Default_Ignorable_Code_Point.
    r"[\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)


@dataclass(frozen=True, slots=True)
class TaskMarks:
    """Computes the marks of one process."""

    _secret: bytes = field(default_factory=lambda: secrets.token_bytes(16), repr=False)

    def mark(self, agent: str, task: str) -> str:
        """Compute the mark of an agent at a task."""
        text = f"{agent}\0{_normalize(task)}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=16, key=self._secret).hexdigest()


def _normalize(task: str) -> str:
    without_context = task.partition(CONTEXT_HEADING)[0] or task
    return _INVISIBLE.sub("", "".join(without_context.split()))  # splitting first takes a third of the time
