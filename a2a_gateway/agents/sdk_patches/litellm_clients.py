"""Close the HTTP clients that LiteLLM keeps for the event loop of a gateway: it closes them at the end of the process only.

Beside a client for each loop, it has one for all of them, whose session belongs to the loop that used it last.
`tests/agents/sdk_patches/test_litellm_clients.py` fails when a new version moves a name that is used here.
"""

import asyncio
import inspect
from typing import Any

import litellm
from aiohttp import ClientSession


async def close_llm_clients() -> None:
    """Close the clients of the running event loop, and forget them. A later call on this loop gets new ones."""
    loop = asyncio.get_running_loop()
    cache = litellm.in_memory_llm_clients_cache
    for name, client in [item for item in cache.cache_dict.items() if str(item[0]).endswith(f"-{id(loop)}")]:
        close = getattr(client, "close", None)
        if inspect.iscoroutinefunction(close):
            await close()
        cache.delete_cache(name)  # type: ignore[no-untyped-call]
    shared: Any = vars(litellm).get("module_level_aclient")  # made when it is used first
    session = None if shared is None else getattr(shared.client._transport, "client", None)
    if isinstance(session, ClientSession) and session._loop is loop:
        await session.close()
