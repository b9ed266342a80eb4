"""What each recording must come out as: the table that the end-to-end tests walk through.

Texts and tokens were read from the recordings themselves. Costs are what the provider reported where it did, else
tokens times the provider's published prices, computed by hand and not with the code under test.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from a2a_gateway.runs.model import TokenUsage
from tests.support.replay import Interaction, load_recording

IMAGE: Final = "openai/chat_image_base64_o4mini.yaml"
"""Has a test of its own, because its request is what matters."""

WEATHER: Final = ("What's the weather in Berlin? (52.5200, 13.4050)", "What's the weather in Paris? (48.8575, 2.3514)")


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording and its expected result.

    Attributes:
        model: LiteLLM model id that sends requests of the recorded form.
        base: path of the base URL on the provider's server.
        asks: user messages, one request each, on one conversation.
        answers: the final texts, one per request; `A … B` is a text that begins with A and ends with B.
        usage: tokens of all requests together; None if the provider reported no usage.
        cost_usd: of all requests together, exact; None if no price is known.
        finish_reason: of the last answer.
        prices: USD per million tokens, in and out, that the profile must give.
        error_code: how every request fails, instead of an answer.
        used: how many interactions belong to this conversation; None means all.
        api_version: Azure wants one.
    """

    file: str
    model: str
    base: str = ""
    asks: tuple[str, ...] = ("Hello",)
    answers: tuple[str, ...] = ()
    usage: TokenUsage | None = None
    cost_usd: Decimal | None = None
    prices: tuple[Decimal, Decimal] | None = None
    finish_reason: str = "stop"
    error_code: str | None = None
    retry_after_s: int | None = None
    used: int | None = None
    api_version: str | None = None

    @property
    def interactions(self) -> Sequence[Interaction]:
        """The recorded requests and answers of this conversation."""
        return load_recording(self.file)[: self.used]

    @property
    def streams(self) -> bool:
        """Whether the provider was asked for streams."""
        return any(interaction.asks_for_stream for interaction in self.interactions)

    @property
    def max_turns(self) -> int:
        """Turns after which the recording is over."""
        return len(self.interactions)


def says(expected: str, text: str) -> bool:
    """Compare a text with an expected one, which may leave out its middle."""
    start, gap, end = expected.partition(" … ")
    return text.startswith(start) and text.endswith(end) if gap else text == expected


def _usd(text: str) -> Decimal:
    return Decimal(text)


_BOUVET: Final = ("Answer in up to 3 words: Which ocean contains Bouvet Island?",)

ANSWERED: Final[Sequence[Recording]] = (
    Recording(
        "anthropic/messages_basic.yaml",
        "anthropic/claude-sonnet-4-5-20250929",
        asks=("Hey, what is up?",),
        answers=("Hey! Not much, just here and ready to chat. What's up with you?",),
        usage=TokenUsage(13, 21, cached=1),
        cost_usd=_usd("0.0003528"),  # 10 at 3, 1 read at 0.30, 2 written at 3.75, 21 at 15 USD per million
    ),
    Recording(
        "anthropic/cache_roundtrip_haiku45.yaml",
        "anthropic/claude-haiku-4-5-20251001",
        asks=("Reply with exactly: OK", "Reply with exactly: OK"),
        answers=("OK", "OK"),
        usage=TokenUsage(14722, 8, cached=7351),
        cost_usd=_usd("0.00998385"),  # 20 at 1, 7351 written at 1.25, 7351 read at 0.10, 8 at 5
    ),
    Recording(
        "anthropic/stream_tools_4turns.yaml",
        "anthropic/claude-haiku-4-5-20251001",
        asks=WEATHER,
        answers=(
            "The weather in Berlin is currently: … Perfect for a walk around the city!",
            "The weather in Paris is currently: … Both cities are experiencing mild weather with light winds at 15°C.",
        ),
        usage=TokenUsage(3134, 252),
        cost_usd=_usd("0.004394"),  # 1 and 5
    ),
    Recording(
        "anthropic/thinking_stream_cache.yaml",
        "anthropic/claude-sonnet-4-20250514",
        asks=("What's the weather in Florence, Italy?",),
        answers=("The current weather in Florence, Italy is 40°C (104°F). That's quite hot! It would be a very warm day there.",),
        usage=TokenUsage(972, 143, reasoning=49),  # reasoning: not reported, counted by LiteLLM
        cost_usd=None,  # LiteLLM's price map has dropped this model
    ),
    Recording(
        "deepseek/reasoner.yaml",
        "deepseek/deepseek-reasoner",
        asks=("If a magic mirror shows your future self, but only if you ask a question it cannot answer, what do you ask?",),
        answers=('To see your future self, ask: **"Will you … visual representation that bypasses the verbal paradox.',),
        usage=TokenUsage(48, 5074, reasoning=4910),
        prices=(
            _usd("0.30"),
            _usd("1.20"),
        ),  # DeepSeek is cheaper at night, and so is LiteLLM's map: the profile's prices are fixed
        cost_usd=_usd("0.0061032"),
    ),
    Recording(
        "deepseek/stream_reasoning.yaml",
        "deepseek/deepseek-reasoner",
        answers=('The word "strawberry" contains three "r"s.',),
        usage=TokenUsage(18, 219, reasoning=205),
        cost_usd=_usd("0.00009702"),  # 0.28 and 0.42
    ),
    Recording(
        "gemini/stream_tools_4turns.yaml",
        "gemini/gemini-2.5-flash",
        "/v1beta",
        asks=WEATHER,
        answers=(
            "The weather in Berlin is 15°C with a wind of 10 km/h.",
            "The weather in Paris is 15°C with a wind of 10 km/h.",
        ),
        usage=TokenUsage(897, 218, reasoning=117),
        cost_usd=_usd("0.0008141"),  # 0.30 and 2.50
    ),
    Recording(
        "litellm_proxy/completion.yaml",
        "litellm_proxy/gpt-3.5-turbo",
        asks=("Hey, what is up?",),
        answers=("Not much, just here to help with any questions or tasks you may have. How can I assist you today?",),
        usage=TokenUsage(13, 24),
        cost_usd=_usd("0.0000425"),  # the proxy's own header
    ),
    Recording(
        "litellm_proxy/completion_stream.yaml",
        "litellm_proxy/gpt-3.5-turbo",
        asks=("Hey, what is up?",),
        answers=("Not much, just here to chat and help with anything you need. How can I assist you today?",),
        usage=TokenUsage(13, 22),
        cost_usd=_usd("0.0000395"),  # 0.50 and 1.50; a stream's header comes too early for a cost
    ),
    Recording(
        "openai/chat_basic.yaml",
        "openai/gpt-4o-mini",
        "/v1",
        asks=_BOUVET,
        answers=("Atlantic Ocean.",),
        usage=TokenUsage(22, 3),
        cost_usd=_usd("0.0000051"),  # 0.15 and 0.60
    ),
    Recording(
        "openai/chat_cached_tokens.yaml",
        "openai/gpt-4o",
        "/v1",
        asks=("How should I structure my database schema?",),
        answers=("Structuring a database schema effectively is crucial … (1NF) and proceed",),
        finish_reason="length",
        usage=TokenUsage(1220, 100, cached=1152),
        cost_usd=_usd("0.00261"),  # 68 at 2.50, 1152 read at 1.25, 100 at 10
    ),
    Recording(
        "openai/chat_gpt56_cache_e2e.yaml",
        "openai/gpt-4o",  # recorded on /chat/completions, where LiteLLM sends no gpt-5; the price is that of what answered
        "/v1",
        asks=("Reply with OK.", "Reply with OK."),
        answers=("OK", "OK"),
        usage=TokenUsage(8040, 8, cached=4012),
        cost_usd=_usd("0.0218888"),  # 16 at 4, 4012 written at 5, 4012 read at 0.40, 8 at 20
    ),
    Recording(
        "openai/chat_stream_usage.yaml",
        "openai/gpt-4o-mini",
        "/v1",
        asks=_BOUVET,
        answers=("Southern Ocean.",),
        usage=TokenUsage(22, 3),
        cost_usd=_usd("0.0000051"),
    ),
    Recording(
        "openai/chat_stream_tool_loop_llm.yaml",
        "openai/gpt-4o-mini",
        "/v1",
        asks=("What is 1231 * 2331?",),
        answers=("The result of \\( 1231 \\times 2331 \\) is \\( 2,869,461 \\).",),
        usage=TokenUsage(141, 46),
        cost_usd=_usd("0.00004875"),
    ),
    Recording(
        "openai/chat_parallel_tools_followup.yaml",
        "openai/gpt-4o-mini",
        "/v1",
        asks=("What is the weather in New York City and London?",),
        answers=(
            "The weather in New York City is currently 25 degrees and sunny, while in London, it is 15 degrees and raining.",
        ),
        usage=TokenUsage(156, 72),
        cost_usd=_usd("0.0000666"),
    ),
    Recording(
        "openai/chat_gpt5_stream_multi_tool.yaml",
        "openai/gpt-4o",  # as above: gpt-5 answered
        "/v1",
        asks=("Add and multiply the number 2 and 3",),
        answers=("Addition: 2 + 3 = 5\nMultiplication: 2 × 3 = 6",),
        usage=TokenUsage(452, 404, reasoning=320),
        cost_usd=_usd("0.004605"),  # 1.25 and 10
    ),
    Recording(
        "openai/chat_o4mini_stream_tool_loop.yaml",
        "openai/o4-mini",
        "/v1",
        asks=("What's the weather in Florence,Italy?",),
        answers=("The current temperature in Florence, Italy is 40°C.",),
        usage=TokenUsage(159, 113, reasoning=64),
        cost_usd=_usd("0.0006721"),  # 1.10 and 4.40
    ),
    Recording(
        "openai/responses_basic.yaml",
        "openai/gpt-5.5",
        "/v1",
        asks=("Reply with exactly: pong",),
        answers=("pong",),
        usage=TokenUsage(11, 5),
        cost_usd=_usd("0.000205"),  # 5 and 30
    ),
    Recording(
        "openai/responses_stream.yaml",
        "openai/gpt-5.5",
        "/v1",
        asks=("Reply with exactly: pong",),
        answers=("pong",),
        usage=TokenUsage(11, 5),
        cost_usd=_usd("0.000205"),
    ),
    Recording(
        "openrouter/basic_cost.yaml",
        "openrouter/openai/gpt-oss-120b",
        "/api/v1",
        asks=("What is the capital of France?",),
        answers=("The capital of France is **Paris**.",),
        usage=TokenUsage(74, 21, reasoning=2),
        cost_usd=_usd("0.00000537"),  # OpenRouter's own
    ),
    Recording(
        "openrouter/stream_tools_4turns.yaml",
        "openrouter/anthropic/claude-haiku-4.5",
        "/api/v1",
        asks=WEATHER,
        answers=(
            "The current weather in Berlin is: … You might want to bring a light jacket if you're going out!",
            "The current weather in Paris is: … A light jacket would be good here too.",
        ),
        usage=TokenUsage(3164, 287),
        cost_usd=_usd("0.004599"),  # OpenRouter's own, four times
    ),
    Recording(
        "openhands/sdk_loop_claude_sonnet4.yaml",
        "openai/claude-sonnet-4-20250514",
        asks=("Hello! Can you create a new Python file named hello.py that prints 'Hello, World!'?",),
        answers=('The hello.py file already exists in your current directory … prints "Hello, World!" to the console.',),
        usage=TokenUsage(35428, 804),
        prices=(_usd("3"), _usd("15")),
        cost_usd=_usd("0.118344"),  # OpenHands' own log
    ),
    Recording(
        "openhands/replay_simple_echo_hello_world.yaml",
        "openai/recorded",
        asks=("echo hello world",),
        answers=("hello world",),
    ),
    Recording(
        "openhands/replay_confirmation_mode.yaml",
        "openai/recorded",
        asks=("echo hello world", "do it again", "one more time"),
        answers=("hello world",) * 3,
    ),
    Recording(
        "openhands/replay_creating_agent_plan.yaml",
        "openai/recorded",
        asks=("Create a dummy plan.",),
        answers=("Done! I've created a dummy plan with 5 tasks: … create a different kind of plan!",),
    ),
    Recording(
        "openai/chat_stream_no_usage.yaml",
        "openai/gpt-4o-mini",
        "/v1",
        asks=_BOUVET,
        answers=("South Atlantic Ocean.",),
    ),
)

FAILED: Final[Sequence[Recording]] = (
    Recording(
        "openai/chat_stream_parallel_tools.yaml",  # one turn, which only calls tools
        "openai/gpt-4o-mini",
        "/v1",
        error_code="max_turns_exceeded",
    ),
    Recording(
        "openai/chat_tool_loop_6turns.yaml",  # five calls at once of a tool that our agent has not: OpenHands takes it for a loop
        "openai/gpt-4o",
        "/v1",
        usage=TokenUsage(145, 106),
        cost_usd=_usd("0.0002276"),  # 0.40 and 1.60
        error_code="agent_stuck",
        used=1,
    ),
    Recording(
        "openai/responses_reasoning_4turns.yaml",  # likewise, in its fourth turn
        "openai/gpt-5.5",
        "/v1",
        usage=TokenUsage(1093, 519, reasoning=356),
        cost_usd=_usd("0.021035"),
        error_code="agent_stuck",
    ),
    Recording(
        "anthropic/err_400_prompt_too_long.yaml", "anthropic/claude-haiku-4-5-20251001", error_code="context_length_exceeded"
    ),
    Recording("anthropic/err_401.yaml", "anthropic/claude-haiku-4-5-20251001", error_code="llm_auth_failed"),
    Recording("anthropic/err_404_model.yaml", "anthropic/there-is-no-such-model", error_code="llm_not_found"),
    Recording(
        "azure/chat_content_filter.yaml",
        "azure/openllmetry-testing",
        error_code="content_filter",
        used=1,
        api_version="2024-02-01",
    ),
    Recording(
        "azure/err_429_retry_after.yaml",
        "azure_ai/grok-4-1-fast-non-reasoning",
        "/models",
        error_code="llm_rate_limited",
        retry_after_s=1,
    ),
    Recording("deepseek/err_400_context.yaml", "deepseek/deepseek-chat", error_code="context_length_exceeded"),
    Recording("gemini/err_400_api_key.yaml", "gemini/gemini-2.5-flash", "/v1beta", error_code="llm_auth_failed"),
    Recording(
        "gemini/err_429_quota_retryinfo.yaml",
        "gemini/gemini-2.5-flash",
        "/v1beta",
        error_code="llm_rate_limited",
        retry_after_s=48,
    ),
    Recording("llamacpp/err_500_tools_with_stream.yaml", "openai/qwen3", "/v1", error_code="llm_unavailable"),
    Recording("openai/err_401_invalid_key.yaml", "openai/gpt-4o-mini", "/v1", error_code="llm_auth_failed"),
    Recording("openai/err_404_model_not_found.yaml", "openai/not-found-TEST_CHAT_MODEL", "/v1", error_code="llm_not_found"),
    Recording("openai/err_500_on_chat_path.yaml", "openai/gpt-4o-mini", "/v1", error_code="llm_unavailable"),
    Recording("openai/responses_err_context_length.yaml", "openai/gpt-5-nano", "/v1", error_code="context_length_exceeded"),
    # Not a rate limit, although its status is 429: no retry brings the money back.
    Recording("openai/responses_stream_insufficient_quota.yaml", "openai/gpt-5-nano", "/v1", error_code="llm_unavailable"),
    Recording(
        "openrouter/err_429.yaml", "openrouter/google/gemini-2.0-flash-exp:free", "/api/v1", error_code="llm_rate_limited", used=1
    ),
)
