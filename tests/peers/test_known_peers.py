"""Which peers there are, where some were added beside those of the settings."""

import pytest

from a2a_gateway.peer_settings import PeerSettings
from a2a_gateway.peers.known_peers import KnownPeers
from a2a_gateway.settings import Settings
from tests.peers.added import Added

pytestmark = pytest.mark.anyio

OF_SETTINGS = PeerSettings(id="box", base_url="http://box.example/v1")


async def test_added_peers_come_beside_those_of_the_settings_and_go_again() -> None:
    added = Added()
    roster = KnownPeers(Settings(gateway_id="desk", peers=(OF_SETTINGS,)), added)
    lab, same, itself = (PeerSettings(id=name, base_url="http://x.example/v1") for name in ("lab", "box", "desk"))
    added.peers = [lab, same, itself]
    await roster.reread()
    assert roster.peers == {"lab": lab, "box": OF_SETTINGS}
    added.peers = None
    await roster.reread()
    assert roster.peers == {"lab": lab, "box": OF_SETTINGS}
    added.peers = []
    await roster.reread()
    assert roster.peers == {"box": OF_SETTINGS}
