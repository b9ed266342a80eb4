"""The agents' side, put together: catalogue, tools, workspaces, runner. Importing this imports the SDK, which takes seconds:
`loading` does it properly.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from a2a_gateway.agents.llm.answer_reading import read_answers_first
from a2a_gateway.agents.profiles.catalogue import ProfileCatalog
from a2a_gateway.agents.profiles.llm_environment import LLMEnvironment
from a2a_gateway.agents.runner import AgentRunner
from a2a_gateway.agents.schema_checker import SchemaChecker
from a2a_gateway.agents.sdk_patches.ambient_sources import close_ambient_sources
from a2a_gateway.agents.sdk_patches.litellm_bookkeeping import skip_litellm_bookkeeping
from a2a_gateway.agents.sdk_patches.litellm_proxies import use_proxy_rules
from a2a_gateway.agents.sdk_patches.litellm_transport import guard_llm_transport
from a2a_gateway.agents.tools.toolbox import LocalToolbox
from a2a_gateway.host.socket_owners import SocketOwners
from a2a_gateway.host.workspaces import WorkspaceDirectories
from a2a_gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class Agents:
    """What the run service needs of the agents' side."""

    profiles: ProfileCatalog
    runner: AgentRunner
    workspaces: WorkspaceDirectories
    processes: SocketOwners


@asynccontextmanager
async def open_agents(settings: Settings, environ: Mapping[str, str], checker: SchemaChecker) -> AsyncIterator[Agents]:
    """Open the agents' side: ambient code shut out, profiles read, shells started, first runs rehearsed.

    Raises:
        ConfigurationError: a profile's key cannot be decrypted, or this machine lacks what the tools need.
    """
    close_ambient_sources()
    use_proxy_rules()
    skip_litellm_bookkeeping()
    read_answers_first()
    guard_llm_transport()
    profiles = await asyncio.to_thread(ProfileCatalog, settings, LLMEnvironment.read(environ))
    workspaces = WorkspaceDirectories(settings.data_dir / "workspaces")
    # A run that waits for its child holds a thread, at every depth, besides those at work.
    threads = settings.max_concurrent_runs * (settings.max_depth + 1) + 64
    toolbox = LocalToolbox(settings.data_dir / "shells", shell_pool_size=settings.shell_pool_size, environ=environ)
    async with toolbox, AgentRunner(profiles.recipe, toolbox, checker, tool_threads=threads) as runner:
        await runner.warm_up({profile.tools: profile.name for profile in profiles.list()}.values())  # one of each kind
        yield Agents(profiles, runner, workspaces, toolbox.processes)
