"""`a2a-gateway peer`: the gateways that this one calls, and those that may call it. It works on the store, as `keys` does."""

import asyncio
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from a2a_gateway.cli.command_error import EXIT_USAGE, CommandError
from a2a_gateway.cli.local_store import own_store
from a2a_gateway.cli.options import ConfigOption, DataDirOption, JsonOption, read_settings
from a2a_gateway.cli.screen import note, show, show_json, table

if TYPE_CHECKING:
    from a2a_gateway.peer_settings import PeerSettings
    from a2a_gateway.peers import Identity
    from a2a_gateway.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Chain gateways: add, list and remove peers.")

_AGENTS = "A,B"
_ACCEPTED = ("agents", "budget_usd", "budget_per_day_usd", "max_depth", "max_concurrent_runs", "requests_per_minute")
_OPTIONS = {
    "id": "--id",
    "gateway_id": "--id",
    "base_url": "URL",
    "public_key": "--public-key",
    "agents": "--agents",
    "budget_usd": "--budget-usd",
    **{f"accepts.{name}": f"--accept-{name.replace('_', '-')}" for name in _ACCEPTED},
}
"""The arguments and options of `add`, by the settings that they become."""


@app.command()
def add(
    url: Annotated[str | None, typer.Argument(help="Its base URL; left out for a peer that only calls this gateway.")] = None,
    peer_id: Annotated[
        str | None, typer.Option("--id", metavar="NAME", help="Its name here; default is its own gateway_id.")
    ] = None,
    public_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Its key, as `peer key` prints it there; default is to fetch it.")
    ] = None,
    agents: Annotated[str | None, typer.Option(metavar=_AGENTS, help="The only models of it to serve here.")] = None,
    budget_usd: Annotated[str | None, typer.Option(metavar="USD", help="What one run there may cost.")] = None,
    accept_agents: Annotated[
        str | None, typer.Option(metavar=_AGENTS, help="The only models here that it may run; '' allows no model.")
    ] = None,
    accept_budget_usd: Annotated[str | None, typer.Option(metavar="USD", help="What one run of it here may cost.")] = None,
    accept_budget_per_day_usd: Annotated[
        str | None, typer.Option(metavar="USD", help="What its runs here may cost together, each day (UTC).")
    ] = None,
    accept_max_depth: Annotated[int | None, typer.Option(min=0, help="Greatest depth of its trees here.")] = None,
    accept_max_concurrent_runs: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Its runs that may be under way here at the same time.")
    ] = None,
    accept_requests_per_minute: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Runs that it may begin here within a minute.")
    ] = None,
    json_output: JsonOption = False,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
) -> None:
    """Add another gateway as a peer, by its public key. The other gateway needs the same command with this one's URL."""
    from a2a_gateway.host.data_dir_lock import find_running_url

    settings = read_settings(config, data_dir=data_dir)
    accepts = {
        "agents": _names(accept_agents),
        "budget_usd": accept_budget_usd,
        "budget_per_day_usd": accept_budget_per_day_usd,
        "max_depth": accept_max_depth,
        "max_concurrent_runs": accept_max_concurrent_runs,
        "requests_per_minute": accept_requests_per_minute,
    }
    described = {"agents": _names(agents), "budget_usd": budget_usd, "accepts": _drop_missing(accepts)}
    peer = asyncio.run(_add(settings, url, peer_id, public_key, _drop_missing(described)))
    if json_output:
        show_json(_as_json(peer))
        return
    show(f"Added {peer.id}{f' at {peer.base_url}' if peer.base_url else ''}.")
    show(f"Its key is {peer.public_key}\nIt must be the one that `a2a-gateway peer key` prints there.")
    note(f"To add this gateway there, run: a2a-gateway peer add {find_running_url(settings.data_dir) or settings.own_url}")


@app.command("list")
def list_peers(json_output: JsonOption = False, data_dir: DataDirOption = None, config: ConfigOption = None) -> None:
    """List the peers, also those of gateway.toml."""
    settings = read_settings(config, data_dir=data_dir)
    found = [*settings.peers, *added_peers(settings)]
    if json_output:
        show_json([_as_json(peer) for peer in found])
    elif found:
        show(_as_table(found))
    else:
        note("There is no peer. `a2a-gateway peer add URL` adds one.")


@app.command()
def remove(
    peer_id: Annotated[str, typer.Argument(metavar="ID", help="Its name here.")],
    json_output: JsonOption = False,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
) -> None:
    """Remove an added peer. A running gateway refuses its grants at once, and stops calling it within half a minute."""
    asyncio.run(_remove(read_settings(config, data_dir=data_dir), peer_id))
    if json_output:
        show_json({"removed": peer_id})
    else:
        show(f"Removed {peer_id}.")


@app.command()
def key(
    rotate: Annotated[bool, typer.Option("--rotate", help="Replace the key by a new one, because it may have leaked.")] = False,
    json_output: JsonOption = False,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
) -> None:
    """Print the public key of this gateway, for `peer add --public-key` elsewhere. A missing key is created."""
    from a2a_gateway.peers import SigningKey

    settings = read_settings(config, data_dir=data_dir)
    own = SigningKey.renew(settings.data_dir) if rotate else SigningKey.open(settings.data_dir)
    if json_output:
        show_json({"gateway_id": settings.gateway_id, "public_key": own.public_key})
    else:
        show(own.public_key)
    if rotate:
        note(
            "Restart this gateway to sign with it. Peers that know it by `peer add`, or by public_key, accept the old key until "
            "they have this one; those with a jwks_url fetch it themselves."
        )


def identity_of(settings: "Settings") -> "Identity":
    """Return the identity of the gateway of these settings. If it has no key yet, use a temporary one and store nothing.

    Raises:
        ConfigurationError: its key cannot be read.
    """
    from a2a_gateway.host.clock import SystemClock
    from a2a_gateway.peers import Identity, SigningKey
    from a2a_gateway.peers.signing_key import FILE_NAME

    is_made = (settings.data_dir / FILE_NAME).exists()
    own = SigningKey.open(settings.data_dir) if is_made else SigningKey.generate()
    return Identity(settings.gateway_id, own, SystemClock(), os.environ)


def added_peers(settings: "Settings") -> "Sequence[PeerSettings]":
    """Return the peers that were added with `peer add`."""
    return asyncio.run(_list(settings))


async def _list(settings: "Settings") -> "Sequence[PeerSettings]":
    async with own_store(settings) as store:
        return await store.peers.list_peers()


async def _add(
    settings: "Settings", url: str | None, peer_id: str | None, public_key: str | None, described: dict[str, Any]
) -> "PeerSettings":
    from pydantic import ValidationError

    from a2a_gateway.peer_settings import PeerSettings
    from a2a_gateway.peers.grant_verifier import policy_of
    from a2a_gateway.settings_errors import describe

    root = None if url is None else _parse_root(url)
    gateway_id = None
    if root is not None and public_key is None:
        gateway_id, public_key = await _ask_for_key(root)
    name = peer_id or gateway_id
    if name is None or public_key is None:
        raise CommandError(
            "The id or the public key of the peer is missing.",
            "Give its URL, or --id and --public-key, which `peer key` prints there.",
            exit_code=EXIT_USAGE,
        )
    described |= {"id": name, "gateway_id": gateway_id, "public_key": public_key, "base_url": root and f"{root}/v1"}
    try:
        peer = PeerSettings.model_validate(_drop_missing(described))
        settings.check_peer(peer)
    except ValidationError as error:
        raise CommandError(f"{describe(error, PeerSettings, names=_OPTIONS)}.", exit_code=EXIT_USAGE) from None
    except ValueError as error:
        raise CommandError(f"{error}.", "Set gateway_id in gateway.toml, or A2A_GATEWAY_ID, here and for `serve`.") from None
    async with own_store(settings) as store:
        await store.peers.add_peer(peer)
        await store.keys.renew_peer(peer.id, *policy_of(peer))
    return peer


def _parse_root(url: str) -> str:
    from delegate_tool.protocol.base_url import parse_base_url

    try:
        return parse_base_url(url).removesuffix("/v1")
    except ValueError as error:
        raise CommandError(f"The URL of the peer cannot be used: {error}.", exit_code=EXIT_USAGE) from None


async def _ask_for_key(root: str) -> tuple[str | None, str]:
    from a2a_gateway.errors import PeerUnavailable
    from a2a_gateway.peers.grant_verifier import fetch_keys

    try:
        gateway_id, keys = await fetch_keys(f"{root}/.well-known/jwks.json")
    except PeerUnavailable as error:
        raise CommandError(error.message, "Start the gateway there, or check the URL.") from None
    if not keys:
        raise CommandError(f"{root} publishes no key that can be used.", "Check that the URL is a gateway's.")
    return gateway_id, keys[0]


async def _remove(settings: "Settings", peer_id: str) -> None:
    from contextlib import suppress

    from a2a_gateway.errors import ConfigurationError
    from a2a_gateway.stores.keys import peer_key_name

    async with own_store(settings) as store:
        await store.peers.remove_peer(peer_id)
        with suppress(ConfigurationError):  # a peer that has never called has no key here
            await store.keys.revoke(peer_key_name(peer_id))


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _drop_missing(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _as_json(peer: "PeerSettings") -> dict[str, object]:
    shown = ("id", "gateway_id", "base_url", "public_key", "jwks_url", "agents", "budget_usd", "opaque")
    accepts = peer.accepts.model_dump(mode="json", exclude_none=True) if peer.is_trusted else None
    return {**peer.model_dump(mode="json", include=set(shown)), "shows": _credential_of(peer), "accepts": accepts}


def _credential_of(peer: "PeerSettings") -> str | None:
    """Describe the credential that this gateway presents to the peer."""
    if peer.base_url is None:
        return None
    if peer.has_api_key:
        return "an API key"
    return "grants, by a shared secret" if peer.has_shared_secret else "grants"


def _as_table(peers: "Sequence[PeerSettings]") -> Table:
    listed = table(
        "peer", "at", "credential", "may run here", wraps=("at", "credential", "may run here"), optional=("credential",)
    )
    for peer in peers:
        agents = peer.accepts.agents
        may_run = "nothing" if not peer.is_trusted else "anything" if agents is None else ", ".join(sorted(agents)) or "nothing"
        listed.add_row(peer.id, peer.base_url or "–", _credential_of(peer) or "–", may_run)
    return listed
