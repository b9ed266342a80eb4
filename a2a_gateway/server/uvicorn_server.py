"""A gateway on a socket, inside the running event loop: bind, load, announce, serve, drain."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import uvicorn

from a2a_gateway.errors import ConfigurationError
from a2a_gateway.host.clock import SystemClock
from a2a_gateway.server.app import app_of
from a2a_gateway.server.connection_limits import ConnectionLimits
from a2a_gateway.server.first_key import has_key, make_first_key
from a2a_gateway.server.gateway import Engine, Gateway
from a2a_gateway.server.http_protocol import GatewayHttpProtocol
from a2a_gateway.settings import Settings
from a2a_gateway.stores import open_store, store_url

_BACKLOG = 2048
_TICKS_PER_LOOK = 5
"""uvicorn ticks ten times a second, so connections are checked twice a second."""
_HANG_UP_AFTER_S = 5
"""How long open connections may last once every run has ended."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """What to print when the gateway is ready.

    Attributes:
        url: OpenAI base URL.
        models: model ids that are served.
        problems: profiles that could not be loaded, or whose runs are refused for want of a price, one line each.
        first_key: the key that this first start made, to be shown once; None if it is in a file, and at later starts.
        first_key_file: the file that it was written to.
    """

    url: str
    models: tuple[str, ...]
    problems: tuple[str, ...]
    first_key: str | None = field(repr=False)
    first_key_file: str | None = None


@dataclass(slots=True)
class RunningGateway:
    """A gateway that listens.

    Attributes:
        server: ends when its `should_exit` is set.
        serving: done when the server has stopped.
    """

    settings: Settings
    gateway: Gateway
    server: uvicorn.Server
    serving: asyncio.Task[None]

    async def ready(self, *, may_show_key: bool = True) -> Announcement | None:
        """Wait until runs are accepted, and return what to print; None if the server was stopped before.

        Args:
            may_show_key: whether a person reads the announcement. Otherwise the key of a first start goes to a file, because what
                a service prints is kept and forwarded.

        Raises:
            ConfigurationError: it cannot start, or the key cannot be written.
        """
        either: set[asyncio.Future[Any]] = {self.serving, self.gateway.started}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self.gateway.started.done():
            return None
        return await self._announcement(self.gateway.started.result(), may_show_key=may_show_key)

    async def _announcement(self, engine: Engine, *, may_show_key: bool) -> Announcement:
        # Not made earlier: a gateway that is ended before it is ready would have made a key that no person has seen.
        first_key, file = await make_first_key(engine.store, self.settings, may_show_key=may_show_key)
        # Those because of which runs are refused; the log has the other warnings.
        grave = [problem for problem in engine.profiles.problems() if not problem.is_warning or problem.topic == "price"]
        problems = [f"{p.path}{f':{p.line}' if p.line else ''}: {p.message}" for p in grave]
        models = tuple(profile.model for profile in engine.profiles.list())
        return Announcement(self.settings.own_url, models, tuple(problems), first_key, None if file is None else str(file))


@asynccontextmanager
async def running_gateway(
    settings: Settings, environ: Mapping[str, str], clock: SystemClock | None = None, *, owns_process: bool = False
) -> AsyncIterator[RunningGateway]:
    """Serve until the context ends, which cancels the runs under way. Port 0 stands for a free port.

    `environ` is where OpenHands' conventional variables are read from; for `owns_process` see `Gateway`.

    Raises:
        ConfigurationError: the settings, the keys or the socket do not allow a start.
    """
    settings.make_data_dir()
    with _listener(settings) as listener:
        bound = settings.model_copy(update={"port": listener.getsockname()[1]})
        await _require_key_if_reachable(bound)
        async with Gateway(bound, environ, clock or SystemClock(), owns_process, listens=True) as gateway:
            limits = ConnectionLimits(bound.max_connections, bound.head_timeout_s, bound.body_timeout_s)
            config = uvicorn.Config(
                app_of(gateway),
                http=cast("type[GatewayHttpProtocol]", partial(GatewayHttpProtocol, limits=limits)),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                # A client on this machine must not be able to claim another address.
                proxy_headers=False,
                timeout_graceful_shutdown=_HANG_UP_AFTER_S,
            )
            server = _Server(config, limits)
            serving = asyncio.create_task(server.serve(sockets=[listener]), name="serve")
            try:
                yield RunningGateway(bound, gateway, server, serving)
            finally:
                await gateway.drain(0)
                server.should_exit = True
                await serving


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, limits: ConnectionLimits) -> None:
        super().__init__(config)
        self._limits = limits
        self._ticked_at_s = time.monotonic()

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_PER_LOOK == 0:
            now_s = time.monotonic()
            elapsed_s, self._ticked_at_s = now_s - self._ticked_at_s, now_s
            self._limits.close_overdue(cast("set[GatewayHttpProtocol]", self.server_state.connections.copy()), elapsed_s)
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # `process` handles signals: the server must listen while runs end, because they may call each other through it.
        yield


async def _require_key_if_reachable(settings: Settings) -> None:
    """Refuse to start without a key if other machines can reach the gateway, unless the operator expects one in a file.

    Raises:
        ConfigurationError: there is no key.
    """
    async with open_store(store_url(settings), SystemClock()) as store:
        if not settings.is_loopback and settings.bootstrap_key_file is None and not await has_key(store):
            raise ConfigurationError(
                f"Refusing to listen on {settings.host}, which other machines can reach, without a key. "
                "Make one first: a2a-gateway keys create NAME; or set bootstrap_key_file (A2A_BOOTSTRAP_KEY_FILE)."
            )


def _listener(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        # From here on the kernel queues connections, so clients can connect before the server accepts them.
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"Cannot listen on {settings.host}:{settings.port}: {error.strerror or error}. Choose another with --host and --port."
        ) from None
