"""List the private names of other packages that this project uses, by the module or `module:Class` that contains them.

Any release may remove a private name. `tests/agents/sdk_patches/test_private_names.py` fails if a name is missing, if code uses a
name that is not listed here, and if a listed name is no longer used. No code imports this list at run time.
"""

from collections.abc import Mapping
from typing import Final

_SDK: Final = "openhands.sdk"
_LITELLM: Final = "litellm.litellm_core_utils"
_HTTP: Final = "litellm.llms.custom_httpx"

PRIVATE_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    # A conversation has no public way to get a history, and refers to itself.
    f"{_SDK}.conversation.impl.local_conversation:LocalConversation": (
        "_base_callback",
        "_ensure_agent_ready",
        "_on_event",
    ),
    f"{_SDK}.conversation.state:ConversationState": ("_autosave_enabled",),
    # The identity of an agent, and where its tools run.
    f"{_SDK}.agent.base": ("_DEFAULT_SOUL", "_load_soul_md"),
    f"{_SDK}.agent.agent:Agent": ("_parallel_executor",),
    f"{_SDK}.agent.parallel_executor:ParallelToolExecutor": ("_arun_safe",),
    f"{_SDK}.context.condenser.llm_summarizing_condenser:LLMSummarizingCondenser": ("_agenerate_condensation",),
    # The LLM, metered.
    f"{_SDK}.llm.llm:LLM": (
        "_aiter_with_idle_timeout",
        "_apply_prompt_caching",
        "_make_retry_decorator",
        "_model_features",
        "_model_info",
        "_refresh_litellm_metadata",
        "_telemetry",
        "_validate_context_window_size",
    ),
    f"{_SDK}.llm.utils.telemetry:Telemetry": ("_compute_cost", "_record_usage"),
    # LiteLLM: the additional work of each call, and how it sends requests.
    "litellm": ("_async_success_callback",),
    "litellm.main": ("_encoding_cache", "_load_default_encoding", "_set_stream_builder_response_cost"),
    "litellm.types.utils:ModelResponse": ("_hidden_params",),
    f"{_LITELLM}.litellm_logging:Logging": ("_response_cost_calculator",),
    f"{_LITELLM}.secret_redaction": ("_SECRET_RE",),
    f"{_LITELLM}.streaming_chunk_builder_utils:ChunkProcessor": ("_get_service_tier_from_chunks",),
    f"{_LITELLM}.streaming_handler:CustomStreamWrapper": (
        "_finalize_completed_stream",
        "_restore_consumer_correlation_context",
    ),
    f"{_HTTP}.aiohttp_transport:LiteLLMAiohttpTransport": ("_proxy_from_env",),
    f"{_HTTP}.http_handler:AsyncHTTPHandler": ("_create_async_transport",),
    # MCP: whether a server's process has ended.
    "fastmcp.client.transports.stdio:StdioTransport": ("_is_session_dead",),
    # HTTP: proxies and cookies of clients, and the loop that a session belongs to.
    "httpx": ("_client",),
    "httpx:AsyncClient": ("_cookies", "_transport"),
    "aiohttp:ClientSession": ("_loop",),
    # uvicorn: its parser's callbacks are public, a method that they share is not.
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol": ("_unset_keepalive_if_required",),
}
