"""Close the HTTP clients that LiteLLM keeps for the event loop of a gateway. LiteLLM closes them only when the process ends.

It has a client for each loop, and one for all loops, whose session belongs to the loop that used it last.
`tests/agents/sdk_patches/test_litellm_clients.py` fails if a version moves a name that is used here.
"""

import asyncio
import inspect
from typing import Any

import litellm
from aiohttp import ClientSession


async def close_llm_clients() -> None:
    """Close the clients of the running event loop, and remove them from the cache. A later call on this loop gets new clients."""
    loop = asyncio.get_running_loop()
    cache = litellm.in_memory_llm_clients_cache
    for name, client in [item for item in cache.cache_dict.items() if str(item[0]).endswith(f"-{id(loop)}")]:
        close = getattr(client, "close", None)
        if inspect.iscoroutinefunction(close):
            await close()
        cache.delete_cache(name)  # type: ignore[no-untyped-call]
    shared: Any = vars(litellm).get("module_level_aclient")  # exists after its first use
    session = None if shared is None else getattr(shared.client._transport, "client", None)
    if isinstance(session, ClientSession) and session._loop is loop:
        await session.close()
