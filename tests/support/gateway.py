"""A real gateway for tests: real uvicorn on a free port, in a thread with a loop of its own, on a scripted LLM."""

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from anyio.from_thread import start_blocking_portal
from openai import AsyncOpenAI, OpenAI

from a2a_gateway.host.clock import SystemClock
from a2a_gateway.runs.key_limits import RequestLimits
from a2a_gateway.runs.live import LiveRun
from a2a_gateway.runs.model import KeyRecord, RunId, SpendCaps
from a2a_gateway.server.uvicorn_server import RunningGateway, running_gateway
from a2a_gateway.settings import Settings
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from delegate_tool.protocol.limits import LimitPolicy
from tests.support.ask import direct


@dataclass(frozen=True)
class GatewayUnderTest:
    """A running gateway and its clients. `key` is the one that the first start in a data directory creates."""

    running: RunningGateway
    portal: Any
    base_url: str
    key: str
    data_dir: Path

    def client(self, key: str | None = None, **options: Any) -> AsyncOpenAI:
        """Return the official client; it does not retry, unless `options` ask for it."""
        return AsyncOpenAI(base_url=self.base_url, api_key=key or self.key, **{"max_retries": 0, **options})

    def sync_client(self, key: str | None = None, **options: Any) -> OpenAI:
        return OpenAI(base_url=self.base_url, api_key=key or self.key, **{"max_retries": 0, **options})

    def http(self, key: str | None = None) -> httpx.AsyncClient:
        """Return a plain HTTP client with the key; its base URL is the server's root."""
        headers = {"authorization": f"Bearer {key or self.key}"}
        return httpx.AsyncClient(base_url=self.base_url.removesuffix("/v1"), headers=headers, timeout=60)

    def live_run(self, run_id: str) -> LiveRun:
        """Find a run that is under way."""
        live = self.running.gateway.started.result().service.live_runs.get(RunId(run_id))
        assert live is not None
        return live

    def create_key(
        self,
        name: str,
        policy: LimitPolicy | None = None,
        caps: SpendCaps | None = None,
        limits: RequestLimits | None = None,
        workspaces: Sequence[str] = (),
    ) -> tuple[KeyRecord, str]:
        """Make a key in the running gateway's own store."""
        store = self.running.gateway.started.result().store
        return self.portal.call(store.keys.create_key, name, policy, caps, limits, workspaces)  # type: ignore[no-any-return]


def free_port() -> int:
    """Return an unused port of this machine, for a gateway whose address must be known before it starts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def scripted_environ(llm_url: str, **more: str) -> dict[str, str]:
    """Return OpenHands' variables for a scripted LLM, which is free; nothing of the machine's own environment."""
    llm = {"LLM_MODEL": "openai/scripted", "LLM_BASE_URL": llm_url, "LLM_API_KEY": "sk-scripted-secret-0123456789"}
    return {**llm, "A2A_UNPRICED_USD_PER_MTOK": "0", **more}


@contextmanager
def gateway_in_thread(
    data_dir: Path, environ: dict[str, str], *, clock: SystemClock | None = None, **settings: Any
) -> Iterator[GatewayUnderTest]:
    """Run a gateway until the context ends. `settings` are those of `Settings`."""
    profiles = data_dir / "test-profiles"
    profiles.mkdir(parents=True, exist_ok=True)
    configured = Settings(
        **{
            "port": 0,
            "data_dir": data_dir,
            "profiles": (profiles,),
            "llm_retries": 0,
            "drain_s": 0,
            "disconnect_grace_s": 0,
            "unpriced_usd_per_mtok": 0,
            **settings,
        }
    )
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(running_gateway(configured, environ, clock, owns_process=True)) as running,
    ):
        announcement = portal.call(running.ready)
        assert announcement is not None
        yield GatewayUnderTest(running, portal, announcement.url, announcement.first_key or "", data_dir)


@contextmanager
def scripted_gateway(
    data_dir: Path, profiles: Mapping[str, str] | None = None, **settings: Any
) -> Iterator[tuple[GatewayUnderTest, ScriptedLLM]]:
    """Run a gateway whose agents use a scripted LLM. `profiles` are markdown definitions by name; see `gateway_in_thread`."""
    directory = data_dir / "profiles"
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in (profiles or {}).items():
        (directory / f"{name}.md").write_text(text)
    with ScriptedLLM.in_thread(direct=direct) as llm:
        environ = scripted_environ(llm.base_url, OH_PERSISTENCE_DIR=str(data_dir / "openhands"))
        with gateway_in_thread(data_dir, environ, **settings) as gateway:
            yield gateway, llm
