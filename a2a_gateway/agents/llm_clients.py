"""Close the HTTP clients that LiteLLM keeps for the event loop of a gateway: it closes them at the end of the process only."""

import asyncio
import inspect

import litellm


async def close_llm_clients() -> None:
    """Close the clients of the running event loop, and forget them. A later call on this loop gets new ones."""
    cache = litellm.in_memory_llm_clients_cache
    suffix = f"-{id(asyncio.get_running_loop())}"  # LiteLLM has a client for each loop, and names it so
    for name, client in [item for item in cache.cache_dict.items() if str(item[0]).endswith(suffix)]:
        close = getattr(client, "close", None)
        if inspect.iscoroutinefunction(close):
            await close()
        cache.delete_cache(name)  # type: ignore[no-untyped-call]
