"""Three gateways in a chain, each known to the next by its key; the middle one is a process, which can be killed."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from a2a_gateway.peer_settings import PeerSettings
from a2a_gateway.peers import SigningKey
from a2a_gateway.stores import sqlite_url
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.crash.books import Books
from tests.crash.load import profile
from tests.support.gateway import GatewayUnderTest, gateway_in_thread, scripted_environ
from tests.support.process import GatewayProcess
from tests.support.until import until

AT_B, AT_C = "b/openhands_far", "c/openhands_far"
FAR = profile("far", "delegate")


@dataclass(frozen=True)
class Chain:
    """A calls B as `b/…`, and B calls C as `c/…`. A client that leaves gets no grace from any of them."""

    home: Path
    llm: ScriptedLLM
    a: GatewayUnderTest
    b: GatewayProcess
    c: GatewayUnderTest

    def books(self) -> tuple[Books, Books, Books]:
        """Read the stores of A, B and C."""
        a, c = (Books.read(sqlite_url(self.home / name / "gateway.db")) for name in "ac")
        return a, Books.read(self.b.database_url), c

    async def get_final_run(self, http: httpx.AsyncClient, run_id: str) -> dict[str, Any]:
        """Return a run as A shows it, once its cost is final."""

        async def final() -> dict[str, Any] | None:
            run: dict[str, Any] = (await http.get(f"/v1/runs/{run_id}")).json()
            return None if run["cost"].get("pending") else run

        return await until(final)


@contextmanager
def running_chain(home: Path) -> Iterator[Chain]:
    """Run the chain until the context ends; a test that kills the middle starts it again."""
    with ExitStack() as stack:
        llm = stack.enter_context(ScriptedLLM.in_thread())

        def begin(name: str, *peers: PeerSettings) -> GatewayUnderTest:
            (home / name / "test-profiles").mkdir(parents=True, exist_ok=True)
            (home / name / "test-profiles" / "far.md").write_text(FAR)
            environ = scripted_environ(llm.base_url, OH_PERSISTENCE_DIR=str(home / name / "openhands"))
            return stack.enter_context(
                gateway_in_thread(home / name, environ, gateway_id=name, peers=peers, peer_refresh_s=0.1, shell_pool_size=0)
            )

        b = GatewayProcess(home / "b", llm.base_url, is_warm=True)
        c = begin("c", PeerSettings(id="b", public_key=SigningKey.open(b.data_dir).public_key))
        b.settings = (
            'gateway_id = "b"\npeer_refresh_s = 0.1\nshell_pool_size = 0\ndisconnect_grace_s = 0\n'
            f'[[peers]]\nid = "c"\nbase_url = "{c.base_url}"\n'
            f'[[peers]]\nid = "a"\npublic_key = "{SigningKey.open(home / "a").public_key}"\n'
        )
        b.write_profiles(far=FAR)
        b.start()
        try:
            yield Chain(home, llm, begin("a", PeerSettings(id="b", base_url=f"{b.url}/v1")), b, c)
        finally:
            b.end()
