"""`a2a-gateway serve`: the process of a running gateway, with its logs, secrets and signals."""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Final

import uvloop

from a2a_gateway.agents.profiles.llm_environment import LLMEnvironment
from a2a_gateway.host.orphans import become_parent_of_orphans
from a2a_gateway.host.process_hardening import forbid_inspection, scrub_environment
from a2a_gateway.llm_settings import secret_variables
from a2a_gateway.runs.event_log import get_log
from a2a_gateway.server.logs import configure_logs
from a2a_gateway.server.origin import can_identify_senders
from a2a_gateway.server.uvicorn_server import Announcement, RunningGateway, running_gateway
from a2a_gateway.settings import Settings, unknown_variables

log = get_log(__name__)

_SETTINGS_WITH_SECRETS: Final = frozenset({"A2A_DATABASE_URL", "A2A_PEERS", "A2A_LLMS"})
"""Settings that may contain a password or a key. They have been read before they are removed."""
_TRACING: Final = ("OTEL_", "LMNR_")
"""Prefixes of variables that are removed: they would make the SDK export what agents read and write, and some contain a
credential."""


def serve(settings: Settings, *, may_show_key: bool, on_ready: Callable[[Announcement], None]) -> None:
    """Serve until SIGTERM, which lets runs end within `drain_s`, or SIGINT, which cancels them; see `_Signals`.

    `may_show_key`: see `RunningGateway.ready`.

    Raises:
        ConfigurationError: the settings, the keys or the profiles do not allow a start.
    """
    configure_logs(settings.log_level)
    environ = dict(os.environ)
    for name, fault in unknown_variables(environ).items():
        log.warning("unknown_setting", variable=name, reason=fault)
    # Agents run as this process's user: what they can read of the process must not contain secrets.
    of_peers = {name for peer in settings.peers for name in peer.secret_variables}
    of_llms = secret_variables(settings.llms)
    of_tracers = {name for name in environ if name.startswith(_TRACING)}
    of_environment = LLMEnvironment.read(environ).secrets.keys()
    scrub_environment(of_environment | of_llms | of_peers | of_tracers | _SETTINGS_WITH_SECRETS)
    forbid_inspection()
    if settings.agent_key_use != "allow" and can_identify_senders():
        become_parent_of_orphans()  # else an orphan of an agent's shell would look like any other client
    asyncio.run(_serve(settings, environ, on_ready, may_show_key=may_show_key), loop_factory=uvloop.new_event_loop)


async def _serve(
    settings: Settings, environ: dict[str, str], on_ready: Callable[[Announcement], None], *, may_show_key: bool
) -> None:
    async with running_gateway(settings, environ, owns_process=True) as running:
        with _Signals(running):
            announcement = await running.ready(may_show_key=may_show_key)
            if announcement is not None:
                on_ready(announcement)
            await running.serving


class _Signals:
    """Maps signals to an urgency, which each further signal raises by one.

    1   SIGTERM        drain: let runs end within `drain_s`
    2   SIGINT         cancel the runs
    3   a further one  exit without waiting
    """

    def __init__(self, running: RunningGateway) -> None:
        self._running = running
        self._loop = asyncio.get_running_loop()
        self._urgency = 0
        self._draining: set[asyncio.Task[None]] = set()

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._receive, number)

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.remove_signal_handler(number)

    def _receive(self, number: signal.Signals) -> None:
        self._urgency = max(self._urgency + 1, 1 if number is signal.SIGTERM else 2)
        match self._urgency:
            case 1:
                self._draining.add(asyncio.create_task(self._drain(None)))
            case 2:
                self._draining.add(asyncio.create_task(self._drain(0.0)))
            case _:
                self._running.server.force_exit = True
                self._running.server.should_exit = True

    async def _drain(self, timeout_s: float | None) -> None:
        try:
            await self._running.gateway.drain(timeout_s)
        finally:
            self._running.server.should_exit = True
