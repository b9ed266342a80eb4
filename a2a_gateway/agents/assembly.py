"""The agents' side, put together: catalogue, tools, workspaces, runner. Importing this imports the SDK, which takes seconds:
`loading` does it properly.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from a2a_gateway.agents.llm.answer_reading import ANSWER_READING
from a2a_gateway.agents.profiles.catalogue import ProfileCatalog
from a2a_gateway.agents.profiles.llm_environment import LLMEnvironment
from a2a_gateway.agents.runner import AgentRunner
from a2a_gateway.agents.schema_checker import SchemaChecker
from a2a_gateway.agents.sdk_patches.ambient_sources import AMBIENT_SOURCES
from a2a_gateway.agents.sdk_patches.litellm_bookkeeping import BOOKKEEPING
from a2a_gateway.agents.sdk_patches.litellm_proxies import PROXIES
from a2a_gateway.agents.sdk_patches.litellm_transport import LLM_TRANSPORT
from a2a_gateway.agents.sdk_patches.patching import apply_optional, require
from a2a_gateway.agents.tools.toolbox import LocalToolbox
from a2a_gateway.host.garbage_collector import freeze_survivors
from a2a_gateway.host.workspaces import WorkspaceDirectories
from a2a_gateway.runs.messages import Sampling
from a2a_gateway.runs.model import MODEL_PREFIX, Profile, ProfileProblem
from a2a_gateway.runs.site import Site
from a2a_gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class Agents:
    """The agents' side, as one site of the gateway.

    Attributes:
        ignored_options: names the fields of a request that the LLM of a model ignores or cuts down.
    """

    site: Site
    ignored_options: Callable[[str, Sampling], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _ServedProfiles:
    """The catalogue by model ids. Satisfies `ports.Profiles`."""

    catalog: ProfileCatalog

    def get(self, model: str) -> Profile:
        return self.catalog.get(model.removeprefix(MODEL_PREFIX))

    def list(self) -> Sequence[Profile]:
        return self.catalog.list()

    def problems(self) -> Sequence[ProfileProblem]:
        return self.catalog.problems()


REQUIRED_PATCHES: Final = (*AMBIENT_SOURCES, *PROXIES, *ANSWER_READING, *LLM_TRANSPORT)
"""What running agents asks of the process; see `sdk_patches.patching` for the reason."""


@asynccontextmanager
async def open_agents(
    settings: Settings, environ: Mapping[str, str], checker: SchemaChecker, *, owns_process: bool = False
) -> AsyncIterator[Agents]:
    """Open the agents' side: ambient code shut out, profiles read, shells started, first runs rehearsed.

    Args:
        owns_process: whether the process is a gateway's own, so that it may be tuned for agents as a whole.

    Raises:
        ConfigurationError: a profile's key cannot be decrypted, this machine lacks what the tools need, or a library is not the
            tested one.
    """
    with require(REQUIRED_PATCHES):
        async with _open(settings, environ, checker, owns_process=owns_process) as agents:
            yield agents


@asynccontextmanager
async def _open(
    settings: Settings, environ: Mapping[str, str], checker: SchemaChecker, *, owns_process: bool
) -> AsyncIterator[Agents]:
    profiles = await asyncio.to_thread(ProfileCatalog, settings, LLMEnvironment.read(environ))
    workspaces = WorkspaceDirectories(settings.data_dir / "workspaces")
    # A run that waits for its child holds a thread, at every depth, besides those at work.
    threads = settings.max_concurrent_runs * (settings.max_depth + 1) + 64
    if owns_process:
        apply_optional(BOOKKEEPING)
        # The SDK and LiteLLM put blocking work there, images to fetch for example; the default size is six on two cores.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(threads, thread_name_prefix="shared"))
    toolbox = LocalToolbox(settings.data_dir / "shells", shell_pool_size=settings.shell_pool_size, environ=environ)
    async with toolbox, AgentRunner(profiles.recipe, toolbox, checker, tool_threads=threads) as runner:
        await runner.warm_up({profile.tools: profile.name for profile in profiles.list()}.values())  # one of each kind
        if owns_process:
            await asyncio.to_thread(freeze_survivors)
        site = Site("agents", _is_own, _ServedProfiles(profiles), runner, workspaces, toolbox.processes)
        yield Agents(site, profiles.ignored_options)


def _is_own(model: str) -> bool:
    return model.startswith(MODEL_PREFIX)
