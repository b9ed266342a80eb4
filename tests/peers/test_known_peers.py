"""Which peers there are, where some were added beside those of the settings."""

from typing import Any

import pytest

from a2a_gateway.peer_settings import PeerSettings
from a2a_gateway.peers.known_peers import KnownPeers
from a2a_gateway.settings import Settings
from tests.peers.added import Added

pytestmark = pytest.mark.anyio

OF_SETTINGS = PeerSettings(id="box", base_url="http://box.example/v1")


async def test_added_peers_come_beside_those_of_the_settings_and_go_again() -> None:
    added = Added()
    known_peers = KnownPeers(Settings(gateway_id="desk", peers=(OF_SETTINGS,)), added)
    lab, same, itself = (PeerSettings(id=name, base_url="http://x.example/v1") for name in ("lab", "box", "desk"))
    added.peers = [lab, same, itself]
    await known_peers.reread()
    assert known_peers.peers == {"lab": lab, "box": OF_SETTINGS}
    added.peers = None
    await known_peers.reread()
    assert known_peers.peers == {"lab": lab, "box": OF_SETTINGS}
    added.peers = []
    await known_peers.reread()
    assert known_peers.peers == {"box": OF_SETTINGS}


async def test_an_added_peer_that_cannot_be_used_is_logged_once_and_again_after_it_could(
    caplog: pytest.LogCaptureFixture,
) -> None:
    added = Added()
    known_peers = KnownPeers(Settings(gateway_id="desk", peers=(OF_SETTINGS,)), added)
    usable, unusable = (PeerSettings(id="lab", gateway_id=name, base_url="http://x.example/v1") for name in ("lab", "desk"))

    async def reread(peer: PeerSettings) -> list[tuple[str, str]]:
        added.peers = [peer, OF_SETTINGS.model_copy(update={"gateway_id": "desk"})]
        caplog.clear()
        await known_peers.reread()
        events: list[Any] = [record.msg for record in caplog.records]
        return [(event["event"], event["peer"]) for event in events]

    left_out = [("peer_left_out", "lab")]
    readings = [await reread(peer) for peer in (unusable, unusable, usable, unusable, unusable)]
    assert readings == [left_out, [], [], left_out, []]
    assert known_peers.peers == {"box": OF_SETTINGS}
