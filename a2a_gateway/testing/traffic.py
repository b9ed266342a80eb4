"""Record the requests to a scripted LLM, and wait for conditions on them. Safe to use from any thread.

A test waits for a condition instead of sleeping: each change checks the conditions, and wakes the tests whose condition is true.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final

from a2a_gateway.testing.script import ChatRequest

type Condition = Callable[["Traffic"], bool]

_PATIENCE_S: Final = 30.0


class Traffic:
    """The requests received, the answers in progress, and the clients that disconnected.

    Args:
        keep: how many of the latest requests to keep; None keeps all.

    Attributes:
        received: the number of all chat requests.
        in_flight: the number of answers in progress; `most_in_flight` is its maximum so far.
        disconnects: the number of clients that disconnected before their answer was complete.
        last_received_ns, last_disconnect_ns: `time.monotonic_ns()` of the latest; 0 if there was none.
    """

    def __init__(self, keep: int | None = None) -> None:
        self._lock = threading.Lock()
        self._waiters: list[tuple[Condition, Future[None]]] = []
        self._requests: deque[ChatRequest] = deque(maxlen=keep)
        self._at_gate: dict[str, int] = {}
        self._disconnected_requests: deque[int] = deque(maxlen=keep)
        self.received = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.disconnects = 0
        self.last_received_ns = 0
        self.last_disconnect_ns = 0

    @property
    def requests(self) -> Sequence[ChatRequest]:
        """The kept requests, oldest first."""
        return tuple(self._requests)

    @property
    def disconnected_requests(self) -> frozenset[int]:
        """The numbers of the kept requests whose client disconnected before the answer was complete."""
        return frozenset(self._disconnected_requests)

    def waiting_at(self, gate: str) -> int:
        """Return the number of answers that wait at a gate now."""
        return self._at_gate.get(gate, 0)

    async def wait_until(self, condition: Condition, timeout_s: float = _PATIENCE_S) -> None:
        """Wait until `condition(traffic)` is true. It is called now and after every change, possibly in another thread.

        Raises:
            TimeoutError: it did not become true; the message contains the state of the traffic.
        """
        try:
            await asyncio.wait_for(asyncio.wrap_future(self._watch(condition)), timeout_s)
        except TimeoutError:
            raise TimeoutError(f"after {timeout_s} s: {self}") from None

    def block_until(self, condition: Condition, timeout_s: float = _PATIENCE_S) -> None:
        """Do as `wait_until`, from a thread without an event loop.

        Raises:
            TimeoutError: the condition did not become true.
        """
        future = self._watch(condition)
        try:
            future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise TimeoutError(f"after {timeout_s} s: {self}") from None

    def _watch(self, condition: Condition) -> Future[None]:
        future: Future[None] = Future()
        with self._lock:
            if condition(self):
                future.set_result(None)
            else:
                self._waiters.append((condition, future))
        return future

    def note_request(self, request: ChatRequest) -> None:
        """Record that a request has arrived and is being answered."""
        with self._lock:
            self._requests.append(request)
            self.received += 1
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            self.last_received_ns = request.received_ns
            self._wake()

    def note_end(self, request: ChatRequest, *, disconnected: bool) -> None:
        """Record the end of an answer: complete, or because its client disconnected."""
        with self._lock:
            self.in_flight -= 1
            if disconnected:
                self.disconnects += 1
                self._disconnected_requests.append(request.number)
                self.last_disconnect_ns = time.monotonic_ns()
            self._wake()

    def note_gate(self, gate: str, change: int) -> int:
        """Record that an answer began (+1) or stopped (-1) to wait at a gate; return how many wait there."""
        with self._lock:
            self._at_gate[gate] = self._at_gate.get(gate, 0) + change
            self._wake()
            return self._at_gate[gate]

    def _wake(self) -> None:
        still_waiting = []
        for condition, future in self._waiters:
            if future.done():
                continue
            if condition(self):
                # A waiter that gives up at this moment has cancelled its future, which then needs no result.
                if future.set_running_or_notify_cancel():
                    future.set_result(None)
            else:
                still_waiting.append((condition, future))
        self._waiters = still_waiting

    def __repr__(self) -> str:
        return (
            f"Traffic(received={self.received}, in_flight={self.in_flight}, disconnects={self.disconnects}, "
            f"at_gates={ {name: count for name, count in self._at_gate.items() if count} })"
        )
