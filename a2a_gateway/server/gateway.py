"""The composition root: one gateway in this process, put together from its settings and taken apart in reverse order.

The HTTP side answers `/health` at once. The agents' side takes seconds to import and is put together in the background; a request
that needs it awaits `Gateway.engine`.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from starlette.types import ASGIApp, Receive, Scope, Send

from a2a_gateway.agents.loading import load_agents_side
from a2a_gateway.agents.profiles.profile_log import log_problems
from a2a_gateway.agents.schema_checker import SchemaChecker
from a2a_gateway.errors import ConfigurationError, GatewayError, NotReady
from a2a_gateway.host.clock import SystemClock
from a2a_gateway.host.data_dir_lock import lock_data_dir
from a2a_gateway.runs.capacity import Capacity
from a2a_gateway.runs.conversation_queue import ConversationQueue
from a2a_gateway.runs.dispatch import Sites
from a2a_gateway.runs.event_log import get_log, log_fault
from a2a_gateway.runs.key_limits import RequestLimits
from a2a_gateway.runs.leases import Leases
from a2a_gateway.runs.limits import Limits
from a2a_gateway.runs.live import LiveRuns
from a2a_gateway.runs.messages import Sampling
from a2a_gateway.runs.ports import Clock, Profiles
from a2a_gateway.runs.revocation import Revocation
from a2a_gateway.runs.service import RunService
from a2a_gateway.runs.service_policy import ServicePolicy
from a2a_gateway.runs.site import Site
from a2a_gateway.runs.throttle import Throttle
from a2a_gateway.server import upkeep
from a2a_gateway.server.auth import Authenticator
from a2a_gateway.server.origin import Origins, can_identify_senders
from a2a_gateway.server.tokens import JwtRunTokens
from a2a_gateway.server.upkeep import background
from a2a_gateway.settings import AgentKeyUse, Settings
from a2a_gateway.stores import Store, database_kind, open_store, store_url
from delegate_tool.protocol.limits import limit_values, limits_of

if TYPE_CHECKING:
    import httpx

    from a2a_gateway.peers import PeerDirectory, RemoteTrees, SigningKey

log = get_log(__name__)

_READY_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Engine:
    """What serves a request, once everything is loaded.

    Attributes:
        ignored_options: returns the names of the sampling options that the LLM of a model ignores or lowers.
        started_at: seconds since the epoch.
    """

    service: RunService
    profiles: Profiles
    store: Store
    auth: Authenticator
    checker: SchemaChecker
    clock: Clock
    directory: "PeerDirectory"
    remote_trees: "RemoteTrees"
    ignored_options: Callable[[str, Sampling], tuple[str, ...]]
    started_at: int


@dataclass(slots=True)
class Gateway:
    """One gateway. Use as `async with`: entering begins to load, leaving drains the runs and releases everything.

    Attributes:
        environ: where OpenHands' conventional variables (`LLM_*`, `OH_*`) and the providers' keys are read from.
        owns_process: whether the process is this gateway's own: environment, garbage collector, loggers, default executor and
            LiteLLM are then tuned for agents. False leaves them to the application; `agents.sdk_patches.patching` lists what is
            replaced in libraries, in either case, while agents run.
        listens: whether it is served at its settings' `own_url`, so that its agents call it there. Otherwise an application
            serves it, and its agents call `app` in this process: see `in_process`.
        app: serves its router; `create_router` makes it.
    """

    settings: Settings
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    clock: SystemClock = field(default_factory=SystemClock)
    owns_process: bool = False
    listens: bool = False
    app: ASGIApp | None = None
    _engine: "asyncio.Future[Engine] | None" = None
    _signing_key: "SigningKey | None" = field(default=None, repr=False)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None
    _draining: bool = False

    async def __aenter__(self) -> Self:
        # Made on each entry, because an application may be started again, in another event loop.
        self._stop, self._draining = asyncio.Event(), False
        self._engine = asyncio.get_running_loop().create_future()
        # Marks a failure as retrieved: a later request raises it, and asyncio need not log it.
        self._engine.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._task = asyncio.create_task(self._serve(self._engine), name="gateway")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        if self._task is not None:
            await self._task

    @property
    def started(self) -> "asyncio.Future[Engine]":
        """Done when the engine is ready, or has failed to start."""
        if self._engine is None:
            raise NotReady("The gateway has not been entered.")
        return self._engine

    @property
    def state(self) -> str:
        """`starting`, `ready`, `draining` or `failed`."""
        if self._engine is not None and self._engine.done() and (self._engine.cancelled() or self._engine.exception()):
            return "failed"
        if self._draining or self._stop.is_set():
            return "draining"
        return "ready" if self._engine is not None and self._engine.done() else "starting"

    async def engine(self) -> Engine:
        """Return the engine, waiting until it is ready.

        Raises:
            NotReady: it is not ready within a minute.
            GatewayError: it failed to start.
        """
        if self.started.done():
            return self.started.result()
        try:
            async with asyncio.timeout(_READY_WITHIN_S):
                return await asyncio.shield(self.started)
        except TimeoutError:
            raise NotReady("The gateway is still starting.", retry_after_s=5) from None

    async def signing_key(self) -> "SigningKey":
        """Return the key with which this gateway signs what it sends to its peers.

        Available before the engine is ready, because gateways that start at the same time request it from each other.

        Raises:
            ConfigurationError: it can be neither read nor made.
        """
        if self._signing_key is None:
            self._signing_key = await asyncio.to_thread(_open_signing_key, self.settings.data_dir)
        return self._signing_key

    async def drain(self, timeout_s: float | None = None) -> None:
        """Start no new trees, let the running ones end within `timeout_s` (None: the setting), then cancel the rest.

        A second call, with a shorter timeout, does not wait for the first.
        """
        is_first, self._draining = not self._draining, True
        if not self.started.done() or self.started.cancelled() or self.started.exception() is not None:
            return
        service = self.started.result().service
        timeout_s = self.settings.drain_s if timeout_s is None else timeout_s
        runs = sum(1 for _ in service.live_runs)
        if is_first or runs:
            log.info("drain_began" if is_first else "drain_shortened", runs=runs, timeout_s=timeout_s)
        await service.drain(timeout_s)
        if is_first:
            log.info("drain_ended")

    async def _serve(self, engine: "asyncio.Future[Engine]") -> None:
        began_at = time.monotonic()
        try:
            _log_start(self)
            signing_key = await self.signing_key()
            async with open_engine(self, signing_key) as ready:
                ready.service.draining = self._draining  # `drain` may have been called during the start
                engine.set_result(ready)
                models = [profile.model for profile in ready.profiles.list()]
                log.info("gateway_ready", models=models, seconds=round(time.monotonic() - began_at, 3))
                await self._stop.wait()
            log.info("gateway_stopped")
        except GatewayError as error:
            log.error("gateway_failed", code=error.code)  # noqa: TRY400  # the message may quote values
            self._fail(engine, error)
        except Exception as error:  # noqa: BLE001  # it is logged
            log_fault(log, "gateway_failed")
            self._fail(
                engine, ConfigurationError(f"The gateway could not start ({type(error).__name__}); its log has the details.")
            )

    def _fail(self, engine: "asyncio.Future[Engine]", error: GatewayError) -> None:
        if not engine.done():
            engine.set_exception(error)


@asynccontextmanager
async def open_engine(gateway: Gateway, signing_key: "SigningKey") -> AsyncIterator[Engine]:
    """Put the parts of a gateway together, each after those that it depends on."""
    settings, environ, clock, owns_process = gateway.settings, gateway.environ, gateway.clock, gateway.owns_process
    own_url, transport = (settings.own_url, None) if gateway.listens else _in_process(gateway)
    live_runs = LiveRuns()
    async with AsyncExitStack() as stack:
        stack.enter_context(lock_data_dir(settings))
        store = await stack.enter_async_context(
            open_store(store_url(settings), clock, answer_ttl_s=settings.idempotency_ttl_s, as_gateway=True)
        )
        lost = await store.ledger.mark_lost()
        if lost:
            log.warning("runs_lost", count=lost)
        # In a thread, because the SDK takes seconds to import and /health must answer meanwhile.
        assembly = await asyncio.to_thread(load_agents_side, owns_process=owns_process)
        from a2a_gateway import peers  # not above: it imports openai, which takes a second

        checker = await stack.enter_async_context(SchemaChecker())
        opened = assembly.open_agents(settings, environ, checker, owns_process=owns_process, gateway_transport=transport)
        async with opened as agents:
            tokens = JwtRunTokens(settings.gateway_id)
            queue = ConversationQueue(settings.max_queued_runs)
            capacity = Capacity(settings.max_concurrent_runs, settings.max_queued_runs)
            policy = _service_policy(settings, own_url)
            identity = peers.Identity(settings.gateway_id, signing_key, clock, environ)
            known_peers = peers.KnownPeers(settings, store.peers)
            directory = await stack.enter_async_context(
                peers.PeerDirectory(known_peers, identity, refresh_s=settings.peer_refresh_s)
            )
            peer_runner = peers.PeerRunner(
                directory,
                gateway_id=settings.gateway_id,
                unpriced_usd_per_token=settings.unpriced_usd_per_token,
                plain_retries=settings.llm_retries,
            )
            sites = Sites([agents.site, Site("peers", lambda model: "/" in model, directory, peer_runner)])
            log_problems(agents.site.profiles.problems())
            await sites.sweep(await store.conversations.workspace_dirs())
            leases = Leases(store.conversations, sites.workspaces_of, live_runs, clock, settings.conversation_ttl_s, queue)
            throttle = Throttle(RequestLimits(settings.max_concurrent_runs_per_key, settings.requests_per_minute_per_key))
            service = RunService(
                store.ledger,
                store.journals,
                live_runs,
                leases,
                sites,
                sites,
                tokens,
                capacity,
                clock,
                policy,
                throttle,
                mask=sites.mask,
            )
            reconciler = peers.Reconciler(store.ledger, directory, clock, first_pause_s=settings.peer_refresh_s)
            reconciling = background(reconciler.reconcile_often(), "reconcile with peers")
            revoking = background(upkeep.enforce_often(Revocation(store.keys, live_runs, service)), "revoke")
            presuming = background(service.presumptions.record_often(), "record presumptions")
            sweeping = background(upkeep.sweep_often(leases, store, clock), "sweep")
            removing = background(upkeep.remove_runs_often(store, clock, settings.run_retention_s), "remove old runs")
            rereading = background(upkeep.reread_often(agents.site.profiles), "read profiles")
            async with presuming, service, sweeping, removing, reconciling, revoking, rereading:
                origins = Origins(sites, _agent_key_use(settings))
                auth = Authenticator(store.keys, store.ledger, tokens, peers.GrantVerifier(known_peers, identity), origins)
                yield Engine(
                    service=service,
                    profiles=sites,
                    store=store,
                    auth=auth,
                    checker=checker,
                    clock=clock,
                    directory=directory,
                    remote_trees=peers.RemoteTrees(directory),
                    ignored_options=agents.ignored_options,
                    started_at=int(clock.now()),
                )


def _log_start(gateway: Gateway) -> None:
    settings = gateway.settings
    log.info(
        "gateway_starting",
        version=version("a2a-gateway"),
        url=settings.own_url if gateway.listens else None,
        gateway=settings.gateway_id,
        data_dir=str(settings.data_dir),
        database=database_kind(settings),
        sandbox="none",  # docs/security.md
    )


def _open_signing_key(data_dir: Path) -> "SigningKey":
    from a2a_gateway.peers import SigningKey  # not above: it takes a second

    return SigningKey.open(data_dir)


def _in_process(gateway: Gateway) -> tuple[str, "httpx.AsyncBaseTransport"]:
    """Return the URL and the transport by which agents reach a gateway that an application serves."""
    from a2a_gateway.server.in_process import IN_PROCESS_URL, in_process_transport

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if gateway.app is None:  # the router may be made after the gateway was entered, but no run begins without it
            raise RuntimeError("a run without a router")
        await gateway.app(scope, receive, send)

    return IN_PROCESS_URL, in_process_transport(app)


def _agent_key_use(settings: Settings) -> AgentKeyUse:
    if settings.agent_key_use != "allow" and not can_identify_senders():
        log.warning(
            "agents_not_distinguished_from_clients", remedy="keep keys where agents cannot read them; see docs/security.md"
        )
        return "allow"
    return settings.agent_key_use


def _service_policy(settings: Settings, own_url: str) -> ServicePolicy:
    return ServicePolicy(
        gateway_id=settings.gateway_id,
        base_url=own_url,
        defaults=Limits(*limit_values(limits_of(settings))),
        queue_timeout_s=settings.queue_timeout_s,
        disconnect_grace_s=settings.disconnect_grace_s,
        drain_s=settings.drain_s,
        idempotency_ttl_s=settings.idempotency_ttl_s,
        journal_bytes=settings.journal_bytes,
    )
