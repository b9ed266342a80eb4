"""What raises the errors of the store, the machine and the settings."""

import sqlite3
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from sqlalchemy import text

from a2a_gateway.host.clock import SystemClock
from a2a_gateway.host.data_dir_lock import lock_data_dir
from a2a_gateway.host.workspaces import WorkspaceDirectories
from a2a_gateway.peer_settings import PeerSettings
from a2a_gateway.peers.signing_key import FILE_NAME, SigningKey
from a2a_gateway.runs.model import Grant, RunId, SpendCaps, TokenUsage
from a2a_gateway.runs.ports import Charge
from a2a_gateway.server.first_key import make_first_key
from a2a_gateway.settings import Settings, load_settings
from a2a_gateway.stores import open_store, sqlite_url, store_url
from delegate_tool.protocol.limits import LimitPolicy
from tests.error_texts.texts import Case
from tests.stores.ledger_bench import NOW, Bench, SteppedClock
from tests.stores.quotes import FREE, calls_of

_SHARING = PeerSettings(id="b", base_url="http://x", shared_secret_env="PAIR")


def on_a_store(work: Callable[[Bench], Awaitable[object]]) -> Case:
    """Run `work` on a new SQLite store that has one key, `laptop`."""

    async def case(directory: Path) -> object:
        clock, url = SteppedClock(), sqlite_url(directory / "gateway.db")
        async with open_store(url, clock) as store:
            key, _ = await store.keys.create_key("laptop")
            return await work(Bench(store, clock, key, url))

    return case


LLM = '[[llms]]\nname = "a"\nmodel = "openai/m"\n'


def with_settings(file: str) -> Case:
    def case(directory: Path) -> object:
        (directory / "gateway.toml").write_text(file)
        return load_settings(directory / "gateway.toml")

    return case


def with_peer(more: str) -> Case:
    return with_settings(f'gateway_id = "a"\n[[peers]]\nid = "b"\nbase_url = "http://x"\n{more}')


def peer_key(environ: dict[str, str], **settings: Any) -> Case:
    return lambda _: PeerSettings(id="b", base_url="http://x", **settings).read_api_key(environ)


async def _first_key(directory: Path) -> object:
    settings = Settings(data_dir=directory, bootstrap_key_file=directory)
    async with open_store(store_url(settings), SystemClock()) as store:
        return await make_first_key(store, settings, may_show_key=False)


async def _revoked_key(bench: Bench) -> object:
    _, secret = await bench.store.keys.create_key("phone")
    await bench.store.keys.revoke("phone")
    return await bench.store.keys.authenticate(secret)


async def _revoked_peer(bench: Bench) -> object:
    await bench.store.keys.of_peer("box", LimitPolicy(), SpendCaps())
    await bench.store.keys.revoke("peer:box")
    return await bench.store.keys.of_peer("box", LimitPolicy(), SpendCaps())


async def _grant_twice(bench: Bench) -> object:
    grant = Grant("box-a", "far-parent", "far-tree", "jti-1", NOW + 100, "openhands_lead", 2, LimitPolicy())
    await bench.propose("one", grant=grant, stated_depth=2)
    return await bench.propose("two", grant=grant, stated_depth=2)


async def _spent(bench: Bench, caps: SpendCaps) -> object:
    key, _ = await bench.store.keys.create_key("capped", caps=caps)
    capped = Bench(bench.store, bench.clock, key, bench.url)
    await capped.running("one")
    await capped.turn("one", TokenUsage(1, 1), 50)
    return await capped.open("two")


async def _spent_by_agent(bench: Bench) -> object:
    await bench.running("one")
    hold = await bench.store.ledger.reserve(RunId("one"), calls_of(60), SpendCaps(day_micro_usd=100))
    await bench.store.ledger.settle(hold, Charge(TokenUsage(1, 1), 60))
    return await bench.store.ledger.reserve(RunId("one"), calls_of(60), SpendCaps(day_micro_usd=100))


async def _negative_charge(bench: Bench) -> object:
    await bench.running("root")
    hold = await bench.store.ledger.reserve(RunId("root"), FREE)
    await bench.store.ledger.settle(hold, Charge(TokenUsage(1, 1), -1))
    return None


async def _start_twice(bench: Bench) -> object:
    await bench.running("root")
    return await bench.store.ledger.start_run(RunId("root"))


async def _foreign_key(bench: Bench) -> object:
    def work(connection: Any) -> None:
        connection.execute(text("INSERT INTO answers VALUES ('no-run', 'x', 0)"))

    return await bench.store.ledger.database.transaction(work)


async def _two_gateways(directory: Path) -> object:
    url = sqlite_url(directory / "gateway.db")
    async with open_store(url, SystemClock(), as_gateway=True), open_store(url, SystemClock(), as_gateway=True):
        return None


async def _newer_database(directory: Path) -> object:
    path = directory / "gateway.db"
    async with open_store(sqlite_url(path), SystemClock()):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    async with open_store(sqlite_url(path), SystemClock()):
        return None


async def _no_database(directory: Path) -> object:
    (directory / "gateway.db").write_bytes(b"this is no database " * 100)
    async with open_store(sqlite_url(directory / "gateway.db"), SystemClock()):
        return None


def at_database(url: str) -> Case:
    return lambda _: _open(url)


async def _open(url: str) -> object:
    async with open_store(url, SystemClock()):
        return None


async def _no_driver(_: Path) -> object:
    with patch.dict(sys.modules, {"psycopg": None}):  # as if it were not installed
        return await _open("postgresql://h/d")


def name_workspace(path: str, *allowed: str) -> Case:
    """Make a case of a caller that names a workspace, with a key for these directories."""

    async def case(directory: Path) -> object:
        workspaces = WorkspaceDirectories(directory / "data" / "workspaces")
        workspaces.root.parent.mkdir()
        return await workspaces.resolve_named(str(directory / path), [str(directory / each) for each in allowed])

    return case


async def _foreign_workspace(directory: Path) -> object:
    (directory / "precious").mkdir()
    await WorkspaceDirectories(directory / "workspaces").remove(str(directory / "precious"))
    return None


def _shared_data_dir(directory: Path) -> object:
    settings = Settings(data_dir=directory / "data")
    with lock_data_dir(settings), lock_data_dir(settings):
        return None


def _unwritable_data_dir(directory: Path) -> object:
    (directory / "data" / "gateway.lock").mkdir(parents=True)
    with lock_data_dir(Settings(data_dir=directory / "data")):
        return None


def _unwritable_signing_key(directory: Path) -> object:
    (directory / "file").touch()
    return SigningKey.renew(directory / "file")


def _signing_key(content: bytes) -> Case:
    def case(directory: Path) -> object:
        (directory / FILE_NAME).write_bytes(content)
        return SigningKey.open(directory)

    return case


def _ec_key(directory: Path) -> object:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = generate_private_key(SECP256R1())
    return _signing_key(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))(directory)


def _missing_peer_key(directory: Path) -> object:
    return PeerSettings(id="b", base_url="http://x", api_key_file=directory / "none").read_api_key({})


def _binary_peer_key(directory: Path) -> object:
    (directory / "binary").write_bytes(b"\xff\xfe")
    return PeerSettings(id="b", base_url="http://x", api_key_file=directory / "binary").read_api_key({})


CASES: dict[str, Case] = {
    # Keys
    "invalid_api_key: unknown": on_a_store(lambda bench: bench.store.keys.authenticate("a2a_wrong")),
    "invalid_api_key: revoked": on_a_store(_revoked_key),
    "invalid_api_key: the peer's account was revoked": on_a_store(_revoked_peer),
    "invalid_api_key: a grant is used twice": on_a_store(_grant_twice),
    "configuration_error: no live key of that name": on_a_store(lambda bench: bench.store.keys.revoke("phone")),
    "configuration_error: the key's name is taken": on_a_store(lambda bench: bench.store.keys.create_key("laptop")),
    "configuration_error: the key's name is a peer's": on_a_store(lambda bench: bench.store.keys.create_key("peer:x")),
    "configuration_error: no such peer was added": on_a_store(lambda bench: bench.store.peers.remove_peer("missing")),
    # The ledger
    "budget_exceeded: the key's of this day": on_a_store(lambda bench: _spent(bench, SpendCaps(day_micro_usd=50))),
    "budget_exceeded: the key's of this month": on_a_store(lambda bench: _spent(bench, SpendCaps(month_micro_usd=50))),
    "budget_exceeded: the agent's of this day": on_a_store(_spent_by_agent),
    "internal_error: a run is started twice": on_a_store(_start_twice),
    "ValueError: a negative charge": on_a_store(_negative_charge),
    # The database
    "store_unavailable: a constraint is violated": on_a_store(_foreign_key),
    "store_unavailable: the file is no database": _no_database,
    "configuration_error: a database of two gateways": _two_gateways,
    "configuration_error: a database of a newer release": _newer_database,
    "configuration_error: a database of an unknown kind": at_database("mysql://u:hunter2@h/d"),
    "configuration_error: a database without a file": at_database("sqlite://mine.db"),
    "configuration_error: a database at what is no URL": at_database("mine.db"),
    "configuration_error: a database without its driver": _no_driver,
    # Files
    "configuration_error: a data directory of two gateways": _shared_data_dir,
    "configuration_error: a data directory that cannot be written to": _unwritable_data_dir,
    "configuration_error: a signing key that cannot be written": _unwritable_signing_key,
    "configuration_error: a signing key that is none": _signing_key(b"no key"),
    "configuration_error: a signing key of another kind": _ec_key,
    "ValueError: a workspace that was not made here": _foreign_workspace,
    "workspace_not_allowed: a key without directories": name_workspace("project"),
    "workspace_not_allowed: beside the key's directory": name_workspace("project", "home"),
    "workspace_not_allowed: the gateway's own data": name_workspace("data", ""),
    "invalid_request_error: a workspace that is missing": name_workspace("home/missing", "home"),
    # Settings
    "configuration_error: an unknown setting": with_settings("max_dept = 3"),
    "configuration_error: a public URL that is none": with_settings('public_url = "gateway.example"'),
    "configuration_error: an LLM with a field that does not exist": with_settings(LLM + 'base_ulr = "http://llm.test"'),
    "configuration_error: an LLM with its key in the settings": with_settings(LLM + 'api_key = "sk-secret"'),
    "configuration_error: an LLM with two sources of its key": with_settings(LLM + 'api_key_env = "A"\napi_key_file = "f"'),
    "configuration_error: an LLM without a model": with_settings('[[llms]]\nname = "a"'),
    "configuration_error: an LLM's name that is reserved": with_settings('[[llms]]\nname = "inherit"\nmodel = "openai/m"'),
    "configuration_error: an LLM's parameter that has a field": with_settings(LLM + "parameters = { max_tokens = 5 }"),
    "configuration_error: an LLM's parameter that the gateway controls": with_settings(LLM + "parameters = { tools = [] }"),
    "configuration_error: an LLM's URL that is none": with_settings(LLM + 'base_url = "localhost:11434"'),
    "configuration_error: two LLMs of one name": with_settings(LLM + LLM),
    "configuration_error: an infinite time": with_settings("timeout_s = inf"),
    "configuration_error: a budget that is no amount": with_settings('budget_usd = "lots"'),
    "configuration_error: the home of an unknown user": with_settings('data_dir = "~no-such-user/data"'),
    "configuration_error: a settings file that is not TOML": with_settings("port = "),
    # Peers in the settings
    "configuration_error: peers without a gateway_id": with_settings('[[peers]]\nid = "b"\nbase_url = "http://x"'),
    "configuration_error: two peers of one id": with_peer('[[peers]]\nid = "b"\nbase_url = "http://y"'),
    "configuration_error: a peer with the gateway's own id": with_settings(
        'gateway_id = "a"\n[[peers]]\nid = "a"\nbase_url = "http://x"'
    ),
    "configuration_error: a peer's id that begins like a profile's": with_settings(
        'gateway_id = "a"\n[[peers]]\nid = "openhands_b"\nbase_url = "http://x"'
    ),
    "configuration_error: a peer that can neither be asked nor ask": with_settings('gateway_id = "a"\n[[peers]]\nid = "b"'),
    "configuration_error: a first key where a file exists": _first_key,
    "configuration_error: a plain endpoint without a key": with_peer("opaque = true"),
    "configuration_error: one price without the other": with_peer('opaque = true\napi_key_env = "K"\ninput_usd_per_mtok = 1'),
    "configuration_error: reports_cost of a gateway": with_peer("reports_cost = true"),
    "configuration_error: two peers of one gateway_id": with_settings(
        'gateway_id = "a"\n' + "".join(f'[[peers]]\nid = "{name}"\ngateway_id = "c"\njwks_url = "x"\n' for name in ("b", "d"))
    ),
    "configuration_error: a peer's key is not set": peer_key({}, api_key_env="KEY"),
    "configuration_error: a peer's key that no header can hold": peer_key({"KEY": "a\nb"}, api_key_env="KEY"),
    "configuration_error: a peer's key file that is missing": _missing_peer_key,
    "configuration_error: a peer's key file that is no text": _binary_peer_key,
    "configuration_error: a shared secret that could be guessed": lambda _: _SHARING.read_shared_secret({"PAIR": "short"}),
    "configuration_error: a shared secret that is not set": lambda _: _SHARING.read_shared_secret({}),
}
