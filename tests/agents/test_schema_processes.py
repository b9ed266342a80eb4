"""The processes that check schemas and answers: they hold up nothing, hold nothing, and end."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from a2a_gateway.agents import schema_checker
from a2a_gateway.agents.schema_checker import SchemaChecker
from a2a_gateway.errors import GatewayError, NotReady
from tests.agents.schemas import doubling
from tests.support.until import until

pytestmark = pytest.mark.anyio

PROGRAM = Path(schema_checker.__file__).with_name("schema_worker.py")


@pytest.fixture
async def checker() -> AsyncIterator[SchemaChecker]:
    async with SchemaChecker() as opened:
        yield opened
    assert not workers()


def workers() -> list[psutil.Process]:
    """The processes of this one that check schemas."""
    children = psutil.Process().children()
    return [child for child in children if child.status() != psutil.STATUS_ZOMBIE and str(PROGRAM) in child.cmdline()]


@pytest.mark.parametrize("user", ["ada", "bob"])
async def test_nine_endless_checks_hold_up_no_other_and_end_when_cancelled(user: str, checker: SchemaChecker) -> None:
    endless = [asyncio.create_task(checker.check_answer(doubling(), "{}", "ada")) for _ in range(9)]
    await until(lambda: len(workers()) >= 4)
    for _ in range(3):
        await checker.check_answer({"type": "object"}, "{}", user)
    assert not endless[-1].done()
    for task in endless:
        task.cancel()
    await asyncio.wait(endless)
    await checker.check_answer({"type": "object"}, "{}", user)
    assert len(workers()) == 1


async def test_a_process_is_used_again_and_one_that_was_killed_is_replaced(checker: SchemaChecker) -> None:
    await checker.check_schema({}, "ada")
    first = workers()
    await checker.check_schema({}, "ada")
    assert workers() == first
    first[0].kill()
    await checker.check_schema({}, "ada")
    assert len(workers()) == 1


@pytest.mark.linux("needs /proc")
async def test_a_process_that_checks_has_no_environment_and_no_files(checker: SchemaChecker) -> None:
    await checker.check_schema({}, "ada")
    [process] = workers()
    assert process.environ() == {}
    assert process.open_files() == []


async def test_leaving_ends_the_checks_under_way() -> None:
    async with SchemaChecker() as checker:
        endless = asyncio.create_task(checker.check_answer(doubling(), "{}", "ada"))
        await until(lambda: len(workers()) == 1)
    with pytest.raises(GatewayError) as caught:
        await endless
    assert isinstance(caught.value, NotReady)
    assert not workers()


def a_worker(life_s: float) -> "subprocess.Popen[bytes]":
    """The program as the gateway starts it, whose jobs may take so long."""
    library = find_spec("jsonschema_rs")
    assert library is not None and library.origin is not None
    arguments = [str(Path(library.origin).parent.parent), str(2**28), str(life_s)]
    process = subprocess.Popen([sys.executable, "-I", "-S", PROGRAM, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"{}\n"
    return process


def test_a_process_whose_gateway_was_killed_ends_also_in_the_middle_of_a_job() -> None:
    with a_worker(60) as idle:
        idle.communicate(timeout=60)
        assert idle.returncode == 0
    with a_worker(0.1) as busy:
        job = json.dumps({"schema": doubling(), "answer": "{}"}).encode() + b"\n"
        said, _ = busy.communicate(job, timeout=60)
        assert (busy.returncode, said) == (-signal.SIGALRM, b"")
