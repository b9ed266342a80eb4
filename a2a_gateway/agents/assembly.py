"""Open everything that runs agents in this process: catalogue, tools, workspaces, runner.

Importing this module imports the SDK, which takes seconds and changes the process. Import it through `loading`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import httpx

from a2a_gateway.agents.llm.answer_reading import ANSWER_READING
from a2a_gateway.agents.profiles.catalogue import ProfileCatalog
from a2a_gateway.agents.profiles.llm_environment import LLMEnvironment
from a2a_gateway.agents.runner import AgentRunner
from a2a_gateway.agents.schema_checker import SchemaChecker
from a2a_gateway.agents.sdk_patches.ambient_sources import AMBIENT_SOURCES
from a2a_gateway.agents.sdk_patches.litellm_bookkeeping import BOOKKEEPING
from a2a_gateway.agents.sdk_patches.litellm_proxies import PROXIES
from a2a_gateway.agents.sdk_patches.litellm_transport import LLM_TRANSPORT
from a2a_gateway.agents.sdk_patches.ollama_model_info import OLLAMA_MODEL_INFO
from a2a_gateway.agents.sdk_patches.patching import apply_optional, require
from a2a_gateway.agents.tools.toolbox import LocalToolbox
from a2a_gateway.host.garbage_collector import freeze_survivors
from a2a_gateway.host.process_hardening import scrub_environment
from a2a_gateway.host.workspaces import WorkspaceDirectories
from a2a_gateway.runs.messages import Sampling
from a2a_gateway.runs.model import Profile, ProfileProblem
from a2a_gateway.runs.site import Site
from a2a_gateway.settings import Settings
from delegate_tool.protocol.values import MODEL_PREFIX


@dataclass(frozen=True, slots=True)
class Agents:
    """The opened parts, as one site of the gateway.

    Attributes:
        ignored_options: returns the names of the options of a request that a model's LLM ignores or reduces.
    """

    site: Site
    ignored_options: Callable[[str, Sampling], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _ServedProfiles:
    """The catalogue, looked up by model id. Implements `runs.ports.Profiles`."""

    catalog: ProfileCatalog

    def get(self, model: str) -> Profile:
        return self.catalog.get(model.removeprefix(MODEL_PREFIX))

    def list(self) -> Sequence[Profile]:
        return self.catalog.list()

    def problems(self) -> Sequence[ProfileProblem]:
        return self.catalog.problems()


REQUIRED_PATCHES: Final = (*AMBIENT_SOURCES, *PROXIES, *ANSWER_READING, *LLM_TRANSPORT, *OLLAMA_MODEL_INFO)
"""The patches without which no agent may run in a process; `sdk_patches.patching` gives the reason."""


@asynccontextmanager
async def open_agents(
    settings: Settings,
    environ: Mapping[str, str],
    checker: SchemaChecker,
    *,
    owns_process: bool = False,
    gateway_transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[Agents]:
    """Apply the patches, read the profiles, start shells, and run each kind of agent once.

    Args:
        owns_process: whether the process belongs to the gateway, so that process-wide settings may be changed.
        gateway_transport: how the agents' delegations reach the gateway, if not over the network.

    Raises:
        ConfigurationError: a profile's key cannot be decrypted, this machine has no bash, or a library is not the tested version.
    """
    with require(REQUIRED_PATCHES):
        opened = _open(settings, environ, checker, owns_process=owns_process, gateway_transport=gateway_transport)
        async with opened as agents:
            yield agents


@asynccontextmanager
async def _open(
    settings: Settings,
    environ: Mapping[str, str],
    checker: SchemaChecker,
    *,
    owns_process: bool,
    gateway_transport: httpx.AsyncBaseTransport | None,
) -> AsyncIterator[Agents]:
    # A gateway leaves the environment of an application that mounts it unchanged.
    conceal = scrub_environment if owns_process else None
    environment = LLMEnvironment.read(environ)
    profiles = await asyncio.to_thread(ProfileCatalog, settings, environment, conceal=conceal)
    workspaces = WorkspaceDirectories(settings.data_dir / "workspaces")
    # A run that waits for its child keeps a thread, at every depth, in addition to the threads of the runs that work.
    threads = settings.max_concurrent_runs * (settings.max_depth + 1) + 64
    if owns_process:
        apply_optional(BOOKKEEPING)
        # The SDK and LiteLLM run blocking work there, such as fetching images. The default size on two cores is six threads.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(threads, thread_name_prefix="shared"))
    toolbox = LocalToolbox(
        settings.data_dir / "shells",
        shell_pool_size=settings.shell_pool_size,
        environ=environ,
        protected=[path.resolve() for path in (settings.file, *profiles.directories)],
    )
    agent_runner = AgentRunner(profiles.recipe, toolbox, checker, tool_threads=threads, gateway_transport=gateway_transport)
    async with toolbox, agent_runner as runner:
        await runner.warm_up(
            {profile.tools: profile.name for profile in profiles.list()}.values()
        )  # one profile for each set of tools
        if owns_process:
            await asyncio.to_thread(freeze_survivors)
        site = Site("agents", _is_own, _ServedProfiles(profiles), runner, workspaces, toolbox.processes, profiles.mask)
        yield Agents(site, profiles.ignored_options)


def _is_own(model: str) -> bool:
    return model.startswith(MODEL_PREFIX)
