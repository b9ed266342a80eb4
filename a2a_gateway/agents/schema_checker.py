"""Check schemas and answers in worker processes, which are killed when they take too long.

Schemas and answers are untrusted, and a small schema can need exponential work. So the gateway's process parses neither. The
program `schema_worker` does, with bounded memory, an empty environment and no files. A job passes one or two stages:

| stage | workers | time | for |
|---|---|---|---|
| quick | 4 | 0.25 s | every job; an ordinary one takes a few milliseconds |
| patient | 1 | 2 s, 5 s with waiting | jobs that the quick stage did not finish: large ones, or any on an overloaded machine |

So a caller whose schemas need endless work delays others only by fractions of a second, and each stage is fair to its users. A
worker is started when it is first needed, reused, killed on a timeout or a cancellation, and ends with the gateway.
"""

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import anyio

from a2a_gateway.agents.fair_semaphore import FairSemaphore
from a2a_gateway.errors import AnswerInvalid, InternalError, NotReady, RequestError, UnsupportedError

_PARAM: Final = "response_format.json_schema.schema"
_PROGRAM: Final = Path(__file__).with_name("schema_worker.py")
_MEMORY_BYTES: Final = 256 * 1024 * 1024
_QUICK_S: Final = 0.25
_PATIENT_S: Final = 2.0
_PATIENCE_S: Final = 5.0
_START_S: Final = 20.0
_NO_ANSWER: Final = (TimeoutError, EOFError, OSError)


class SchemaChecker:
    """Checks schemas and answers; an async context manager that ends its workers on exit. Users have equal shares of them."""

    def __init__(self) -> None:
        self._quick = _Stage(workers=4, limit_s=_QUICK_S)
        self._patient = _Stage(workers=1, limit_s=_PATIENT_S)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._quick.close()
        await self._patient.close()

    async def check_schema(self, schema: Mapping[str, object], user: str) -> None:
        """Check that answers can be checked against a schema.

        Raises:
            RequestError: it is not a valid schema, has a reference that it does not contain, or refers to itself without end.
            UnsupportedError: the check takes too much work.
        """
        await self._check({"schema": schema}, user)

    async def check_answer(self, schema: Mapping[str, object] | None, answer: str, user: str) -> None:
        """Check that an answer is JSON that fits a schema; None stands for any object.

        Raises:
            AnswerInvalid: it does not fit; the message contains the location.
            RequestError: the schema is not valid.
            UnsupportedError: the check takes too much work.
        """
        await self._check({"schema": schema, "answer": answer}, user)

    async def _check(self, job: Mapping[str, object], user: str) -> None:
        line = json.dumps(job).encode() + b"\n"
        reply = await self._quick.run(line, user)
        if reply is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE_S):
                    reply = await self._patient.run(line, user)
        match reply:
            case None:
                raise _too_much(f"more than {_PATIENT_S:g} s or {_MEMORY_BYTES // 1024**2} MiB")
            case {"work": str(work)}:
                raise _too_much(f"too long for {work}")
            case {"schema": str(fault)}:
                raise RequestError(f"{_PARAM}: {fault}.", param=_PARAM)
            case {"answer": str(fault)}:
                raise AnswerInvalid(f"The answer {fault}.")
            case _:
                return


def _too_much(what: str) -> UnsupportedError:
    return UnsupportedError(
        f"Checking an answer against the schema takes {what}: simplify its patterns and its references.", param=_PARAM
    )


class _Stage:
    """A number of workers; each job gets one of them for a limited time."""

    def __init__(self, *, workers: int, limit_s: float) -> None:
        self._semaphore = FairSemaphore(workers)
        self._limit_s = limit_s
        self._idle: list[_Worker] = []
        self._live: set[_Worker] = set()
        self._closed = False

    async def run(self, line: bytes, user: str) -> dict[str, Any] | None:
        """Return the reply to a job; None if it took too long, or ended its worker."""
        async with self._semaphore.acquire(user):
            worker = await self._take()
            is_reusable = False
            try:
                async with asyncio.timeout(self._limit_s):
                    reply = await worker.ask(line)
                is_reusable = True
            except _NO_ANSWER:
                return None
            finally:
                if is_reusable and not self._closed:
                    self._idle.append(worker)
                else:
                    self._live.discard(worker)
                    await worker.kill()
            return reply

    async def _take(self) -> "_Worker":
        if self._closed:
            raise NotReady("The gateway is shutting down and checks no more schemas.")
        if self._idle:
            return self._idle.pop()
        worker = await _Worker.start()
        self._live.add(worker)
        return worker

    async def close(self) -> None:
        """End all workers; current jobs are abandoned."""
        self._closed = True
        for worker in tuple(self._live):
            await worker.kill()


class _Worker:
    """One process of `schema_worker`."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def start(cls) -> Self:
        """Start a process, and wait until it accepts jobs.

        Raises:
            InternalError: it cannot be started.
        """
        # The last argument limits one job, so that the worker ends even if the gateway is killed in the middle of it.
        arguments = (_library_directory(), str(_MEMORY_BYTES), str(2 * _PATIENT_S))
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(_PROGRAM), *arguments),
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                cwd="/",
                env={},
                start_new_session=True,  # otherwise Ctrl-C in a terminal would end it before the gateway
            )
        except OSError as error:
            raise InternalError(f"The process that checks schemas cannot be started: {error.strerror}.") from None
        worker = cls(process)
        ready = False
        try:
            async with asyncio.timeout(_START_S):
                await worker._reply()
            ready = True
        except _NO_ANSWER:
            raise InternalError(f"The process that checks schemas did not start within {_START_S:g} s.") from None
        finally:
            if not ready:
                await worker.kill()
        return worker

    async def ask(self, line: bytes) -> dict[str, Any]:
        """Return the reply to a job.

        Raises:
            EOFError, OSError: the process has ended.
        """
        pipe: Any = self._process.stdin  # not None, because the process was started with a pipe
        pipe.write(line)
        await pipe.drain()
        return await self._reply()

    async def _reply(self) -> dict[str, Any]:
        pipe: Any = self._process.stdout
        line = await pipe.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        reply: dict[str, Any] = json.loads(line)
        return reply

    async def kill(self) -> None:
        """End the process, and wait until it has ended."""
        with suppress(ProcessLookupError):
            self._process.kill()
        with anyio.CancelScope(shield=True):
            await self._process.wait()


def _library_directory() -> str:
    spec = find_spec("jsonschema_rs")
    if spec is None or spec.origin is None:
        raise InternalError("The library jsonschema-rs is not installed.")
    return str(Path(spec.origin).parent.parent)
