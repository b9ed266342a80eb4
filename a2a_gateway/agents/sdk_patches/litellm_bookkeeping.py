"""Skip the work that LiteLLM does for users of its own logging, which is a third of the CPU time of a short run.

| LiteLLM, for each streamed call | why it is not needed here |
|---|---|
| computes the price five times | `pricing` computes it |
| assembles the chunks twice, in a thread | the SDK assembles them |
| writes a log record | the ledger is the record |
| loads a tokenizer of 40 MB | it only counts tokens that a provider does not report, so it is loaded when it is used |
| searches for cookies, which it has blocked | |
| computes the address of its proxy | |

A process that has registered callbacks with LiteLLM, or LiteLLM's cache, keeps this work. The patches only save time: one whose
names a version of LiteLLM has moved is left out with a warning. Pinned to the LiteLLM of the constraints;
`tests/agents/sdk_patches/test_litellm_bookkeeping.py` fails if a version moves a name.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import httpx
import litellm

from a2a_gateway.agents.sdk_patches.patching import Patch

if TYPE_CHECKING:
    from litellm.litellm_core_utils.litellm_logging import Logging
    from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper
    from litellm.types.utils import ModelResponse, ModelResponseStream

    type SetCost = Callable[[ModelResponse, Logging | None], None]
    type Finalize = Callable[..., Awaitable[ModelResponseStream]]

_LOGGING: Final = "litellm.litellm_core_utils.litellm_logging:Logging"
_STREAM: Final = "litellm.litellm_core_utils.streaming_handler:CustomStreamWrapper"
_CHUNKS: Final = "litellm.litellm_core_utils.streaming_chunk_builder_utils"
_CALLBACKS: Final = ("litellm", "_async_success_callback")


class _Tokenizer:
    """LiteLLM's tokenizer, loaded when it is first used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(litellm.main._load_default_encoding(), name)


class _NoCookies(httpx.Cookies):
    """The cookies of a client that ignores cookies."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Ignore the cookies of a response."""


def _skip_cookies(create: Callable[..., httpx.AsyncClient]) -> Callable[..., httpx.AsyncClient]:
    def make(*args: Any, **kwargs: Any) -> httpx.AsyncClient:
        client = create(*args, **kwargs)
        client._cookies = _NoCookies()
        return client

    return make


def _skip_address(find: Callable[..., str | None]) -> Callable[..., str | None]:
    def skip(*args: Any, **kwargs: Any) -> str | None:
        return find(*args, **kwargs) if _has_callbacks() else None

    return skip


def _has_callbacks() -> bool:
    registered = (*litellm.callbacks, *litellm.success_callback, *litellm._async_success_callback)
    # The first call to Gemini registers LiteLLM's cache for the whole process. Without a cache that callback does nothing.
    return bool(litellm.cache) or any(callback != "cache" for callback in registered)


def _skip_price(calculate: Callable[..., float | None]) -> Callable[..., float | None]:
    def skip(self: "Logging", *args: Any, **kwargs: Any) -> float | None:
        return calculate(self, *args, **kwargs) if _has_callbacks() else None

    return skip


def _skip_log(dispatch: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    async def skip(self: "Logging", *args: Any, **kwargs: Any) -> None:
        if _has_callbacks():
            await dispatch(self, *args, **kwargs)

    return skip


def _skip_cost(set_cost: "SetCost") -> "SetCost":
    def skip(response: "ModelResponse", logging_obj: "Logging | None") -> None:
        if _has_callbacks():
            set_cost(response, logging_obj)

    return skip


def _skip_assembly(finalize: "Finalize") -> "Finalize":
    """Replace the end of a stream: a chunk with the finish reason, a chunk with the usage, and `StopAsyncIteration`.

    For each of the last two, LiteLLM assembles the whole answer, to find its usage and to log it.
    """

    async def skip(self: "CustomStreamWrapper", cache_hit: bool) -> "ModelResponseStream":
        if not self.sent_last_chunk or not self.send_stream_usage or _has_callbacks():
            return await finalize(self, cache_hit)
        if self.sent_stream_usage:
            self._restore_consumer_correlation_context()
            raise StopAsyncIteration
        reports = [usage for chunk in self.chunks if (usage := getattr(chunk, "usage", None)) is not None]
        if len(reports) != 1:  # the usage must be estimated, or added up
            return await finalize(self, cache_hit)
        self.sent_stream_usage = True
        last = self.model_response_creator()
        last.usage = reports[0]
        from litellm.litellm_core_utils.streaming_chunk_builder_utils import ChunkProcessor

        if tier := ChunkProcessor._get_service_tier_from_chunks(self.chunks):
            setattr(last, "service_tier", tier)  # noqa: B010  # pydantic extra, not a declared field
        return last

    return skip


BOOKKEEPING: Final = (
    Patch(_LOGGING, "_response_cost_calculator", _skip_price, (_CALLBACKS,)),
    Patch(_LOGGING, "dispatch_success_handlers", _skip_log, (_CALLBACKS,)),
    Patch(
        _STREAM,
        "_finalize_completed_stream",
        _skip_assembly,
        (
            _CALLBACKS,
            (_STREAM, "_restore_consumer_correlation_context"),
            (f"{_CHUNKS}:ChunkProcessor", "_get_service_tier_from_chunks"),
        ),
    ),
    Patch("litellm.llms.custom_httpx.http_handler:AsyncHTTPHandler", "create_client", _skip_cookies),
    Patch("litellm.litellm_core_utils.streaming_handler", "get_api_base", _skip_address, (_CALLBACKS,)),
    Patch("litellm.main", "_encoding_cache", lambda _: _Tokenizer(), (("litellm.main", "_load_default_encoding"),)),
    Patch("litellm.main", "_set_stream_builder_response_cost", _skip_cost, (_CALLBACKS,)),
)
