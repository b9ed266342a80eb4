"""`a2a-gateway doctor`: report what is set up, what is missing, and what to do about it."""

import asyncio
import os
import socket
import stat
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import typer
from rich.table import Table
from rich.text import Text

from a2a_gateway.cli.command_error import DATABASE_REMEDY, EXIT_FAILED, LLM_REMEDY, CommandError
from a2a_gateway.cli.options import ConfigOption, DataDirOption, JsonOption, KeyOption, ProfilesOption, UrlOption, read_settings
from a2a_gateway.cli.screen import show, show_json, table
from a2a_gateway.errors import AuthenticationError, ConfigurationError, GatewayError, StoreError

if TYPE_CHECKING:
    from a2a_gateway.cli.gateway_responses import ListedProblem
    from a2a_gateway.peer_settings import PeerSettings
    from a2a_gateway.peers import Identity
    from a2a_gateway.settings import Settings

_SDK: Final = "1.58."
_PYTHON: Final = (3, 12)


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `missing` and `warning` may be intended, `broken` never is."""

    what: str
    status: Literal["ok", "missing", "warning", "broken"]
    detail: str
    remedy: str = ""


def doctor(
    profiles: ProfilesOption = None,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    key: KeyOption = None,
    json_output: JsonOption = False,
) -> None:
    """Check everything that a gateway needs; exit with 1 if something is broken."""
    findings = list(_examine(config, data_dir, profiles, url, key))
    if json_output:
        show_json([asdict(finding) for finding in findings])
    else:
        show(_as_table(findings))
    if any(finding.status == "broken" for finding in findings):
        raise typer.Exit(EXIT_FAILED)


def _examine(
    config: Path | None, data_dir: Path | None, profiles: list[Path] | None, url: str | None, key: str | None
) -> Iterator[Finding]:
    yield _python()
    sdk = _sdk()
    yield sdk
    try:
        settings = read_settings(config, data_dir=data_dir, profiles=profiles)
    except ConfigurationError as error:
        yield Finding("settings", "broken", error.message, "Correct the option, the A2A_… variable or the line of gateway.toml.")
        return
    yield Finding("settings", "ok", f"gateway.toml {'is read' if Path('gateway.toml').is_file() or config else 'does not exist'}")
    from a2a_gateway.settings import unknown_variables

    for name, fault in unknown_variables(os.environ).items():
        yield Finding(f"variable {name}", "missing", fault, "Correct its name, if this gateway is meant.")
    yield _data_dir(settings.data_dir)
    if sdk.status == "ok":
        yield from _profiles(settings, url, key, chosen=bool(profiles), config=config)
        yield from _peers(settings)
    yield _agent_keys(settings)
    yield _gateway(settings, url, key)


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= _PYTHON:
        return Finding("python", "ok", found)
    return Finding("python", "broken", found, "Install Python 3.12 or newer.")


def _sdk() -> Finding:
    remedy = "Reinstall a2a-gateway with its dependencies."
    try:
        found = {name: version(name) for name in ("openhands-sdk", "openhands-tools")}
    except PackageNotFoundError as error:
        return Finding("openhands", "broken", f"{error.name} is not installed", remedy)
    fits = all(each.startswith(_SDK) for each in found.values())
    detail = ", ".join(f"{name} {each}" for name, each in found.items())
    return Finding("openhands", "ok", detail) if fits else Finding("openhands", "broken", f"{detail}; tested: {_SDK}x", remedy)


def _data_dir(path: Path) -> Finding:
    if not path.exists():
        parent = next(each for each in path.absolute().parents if each.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            return Finding("data directory", "missing", f"{path}", "Nothing: the first start creates it.")
        return Finding("data directory", "broken", f"{path} cannot be created", f"Make {parent} writable, or choose --data-dir.")
    if not path.is_dir() or not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return Finding("data directory", "broken", f"{path} is not a writable directory", "Choose another with --data-dir.")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return Finding("data directory", "broken", f"{path} is accessible to other users ({mode:o})", f"chmod 700 {path}")
    return Finding("data directory", "ok", str(path))


def _profiles(settings: "Settings", url: str | None, key: str | None, *, chosen: bool, config: Path | None) -> Iterator[Finding]:
    from a2a_gateway.cli.profiles import find_profiles

    try:
        listing, served_by = find_profiles(settings, url, key, chosen=chosen, config=config)
    except ConfigurationError as error:
        yield Finding("profiles", "broken", error.message, "Set OH_SECRET_KEY as it was when they were saved.")
        return
    where = f"; as served by {served_by}" if served_by else ""
    if listing.data:
        yield Finding("profiles", "ok", f"{', '.join(profile.id for profile in listing.data)}{where}")
    else:
        yield Finding("profiles", "missing", f"there is no agent{where}", LLM_REMEDY)
    for problem in listing.problems:
        is_broken = problem.severity == "error" or problem.topic == "price"
        yield Finding(problem.topic, "broken" if is_broken else "warning", str(problem), _remedy_of(problem))


def _remedy_of(problem: "ListedProblem") -> str:
    if problem.topic == "price":
        return "Set one of these."
    if problem.path == "LLM_MODEL":
        return "Correct LLM_MODEL, LLM_BASE_URL or LLM_API_KEY in the environment."
    return ""  # the problem itself states it: it may lie in the file, in a variable or in another file


def _peers(settings: "Settings") -> Iterator[Finding]:
    from a2a_gateway.cli.peer import added_peers, identity_of

    try:
        peers = [*settings.peers, *(added_peers(settings) if settings.data_dir.is_dir() else ())]
        identity = identity_of(settings)
    except StoreError as error:
        yield Finding("database", "broken", error.message, DATABASE_REMEDY)
        return
    except GatewayError as error:
        yield Finding("peers", "broken", error.message, "Run `a2a-gateway peer list` for the details.")
        return
    for peer in peers:
        yield _peer(peer, settings, identity)


def _peer(peer: "PeerSettings", settings: "Settings", identity: "Identity") -> Finding:
    from a2a_gateway.peers import examine

    if peer.base_url is None:
        return Finding(f"peer {peer.id}", "ok", "it calls this gateway, and is never called")
    try:
        settings.check_peer(peer)
        found = asyncio.run(examine(peer, identity))
    except ValueError as error:
        return Finding(f"peer {peer.id}", "broken", str(error), "Set gateway_id in gateway.toml or A2A_GATEWAY_ID.")
    except ConfigurationError as error:
        return Finding(f"peer {peer.id}", "broken", error.message, "Set the variable or write the file that it names.")
    if found.problem is not None:
        remedy = f"Start it, or correct its base_url ({peer.base_url}) and its key. Its agents are not served until then."
        if not peer.has_api_key:
            remedy += " Add this gateway with `a2a-gateway peer add` there."
        return Finding(f"peer {peer.id}", "broken", found.problem, remedy)
    if not found.profiles:
        remedy = "Check `agents` in its settings, and what its key allows."
        return Finding(f"peer {peer.id}", "missing", "it answers, but has no agent for this gateway", remedy)
    budget = settings.budget_micro_usd
    unpriced = [profile for profile in found.profiles.values() if not profile.is_priced and profile.has_budget(budget)]
    if unpriced and settings.unpriced_usd_per_mtok is None:
        models = ", ".join(sorted(profile.model for profile in unpriced))
        return Finding(
            f"peer {peer.id}",
            "broken",
            f"no price is known for {models}, and with a budget in force runs there are refused",
            "Give the peer input_usd_per_mtok and output_usd_per_mtok, or reports_cost if it reports the cost of each answer, or "
            "set A2A_UNPRICED_USD_PER_MTOK (0 if it is your own) or A2A_BUDGET_USD=none.",
        )
    return Finding(f"peer {peer.id}", "ok", ", ".join(sorted(found.profiles)))


def _agent_keys(settings: "Settings") -> Finding:
    from a2a_gateway.server.origin import can_identify_senders

    what = "keys of agents"
    remedy = "Keep keys where agents cannot read them, or run the gateway in a container; see docs/security.md."
    if settings.agent_key_use == "allow":
        return Finding(what, "missing", "agent_key_use is `allow`: an agent that finds a key can start trees with it", remedy)
    if not can_identify_senders():
        return Finding(what, "missing", "this system cannot distinguish an agent that has found a key from its owner", remedy)
    means = {"refuse": "is refused", "child": "stays a child of its own run"}[settings.agent_key_use]
    return Finding(what, "ok", f"an agent on this machine that has found a key {means}")


def _gateway(settings: "Settings", url: str | None, key: str | None) -> Finding:
    from a2a_gateway.cli.command_error import RemoteError
    from a2a_gateway.cli.gateway_client import RemoteGateway

    address = url or settings.own_url
    try:
        with RemoteGateway(address, key or "none", own_url=settings.own_url) as gateway:
            gateway.recent_runs(1)
    except RemoteError as error:
        if error.code == AuthenticationError.code and not key:
            return Finding("gateway", "missing", f"{address} answers; no key is given", "Set A2A_API_KEY to check access.")
        return Finding("gateway", "broken", f"{address}: {error.message}", error.remedy)
    except CommandError as error:
        return _port(settings) if url is None else Finding("gateway", "broken", error.message, error.remedy)
    return Finding("gateway", "ok", f"{address} answers and accepts the key")


def _port(settings: "Settings") -> Finding:
    try:
        socket.create_server(
            (settings.host, settings.port), family=socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        ).close()
    except OSError as error:
        detail = f"{settings.host}:{settings.port} cannot be used: {error.strerror or error}"
        return Finding("gateway", "broken", detail, "Choose another with --port, or end the program that uses it.")
    return Finding(
        "gateway", "missing", f"not running; {settings.host}:{settings.port} is free", "`a2a-gateway serve` starts it."
    )


def _as_table(findings: list[Finding]) -> Table:
    styles = {"ok": "green", "missing": "yellow", "warning": "yellow", "broken": "red"}
    listed = table("check", "state", "found", "what to do", wraps=("check", "found", "what to do"))
    for each in findings:
        listed.add_row(each.what, Text(each.status, styles[each.status]), each.detail, each.remedy)
    return listed
