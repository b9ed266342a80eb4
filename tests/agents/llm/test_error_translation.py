"""Why a run failed, from what the SDK and LiteLLM raise."""

import re
from uuid import uuid4

import httpx
import pytest
from litellm import exceptions as provider
from openhands.sdk.conversation.exceptions import ConversationRunError
from openhands.sdk.llm import exceptions as sdk

from a2a_gateway.agents.llm.error_translation import Unrepeatable, failure_of, mask_credentials, requested_wait_s
from a2a_gateway.errors import BudgetExceeded
from delegate_tool.masking import HIDDEN, Secrets
from tests.error_texts.texts import pattern_of

NONE = Secrets()


def caused(error: Exception, cause: BaseException | None) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (sdk.LLMAuthenticationError("no"), "llm_auth_failed"),
        (provider.APIError(403, "no", "openai", "m"), "llm_auth_failed"),
        (provider.NotFoundError("no", "m", "openai"), "llm_not_found"),
        (sdk.LLMBadRequestError("no"), "llm_bad_request"),
        (sdk.LLMMalformedConversationHistoryError("no"), "llm_bad_request"),
        (sdk.LLMContextWindowExceedError("long"), "context_length_exceeded"),
        (sdk.LLMContentPolicyViolationError("no"), "content_filter"),
        (sdk.LLMTimeoutError("slow"), "llm_unavailable"),
        (sdk.LLMNoResponseError("nothing"), "llm_unavailable"),
        (caused(sdk.LLMServiceUnavailableError("no"), provider.RateLimitError("slow", "openai", "m")), "llm_rate_limited"),
        (
            caused(sdk.LLMRateLimitError("no"), provider.RateLimitError('{"code": "insufficient_quota"}', "openai", "m")),
            "llm_unavailable",
        ),
        (caused(Unrepeatable("cut"), provider.APIError(400, "cut", "openai", "m")), "llm_unavailable"),
        (ValueError("a bug"), "agent_error"),
    ],
)
def test_every_failure_has_its_code_also_inside_the_sdk_s_own_error(error: Exception, code: str) -> None:
    wrapped = ConversationRunError(uuid4(), error)
    assert [failure_of(error, NONE).code, failure_of(wrapped, NONE).code] == [code, code]


def test_an_error_of_the_gateway_itself_passes_through() -> None:
    spent = BudgetExceeded("Spent.")
    assert failure_of(ConversationRunError(uuid4(), spent), NONE) is spent


def test_objects_of_python_in_an_error_are_left_out() -> None:
    text = "Cannot connect to host api.example:443 ssl:<ssl.SSLContext object at 0x7f34f1c22210> [Name or service not known]"
    failure = failure_of(provider.InternalServerError(text, "openai", "m"), NONE)
    assert failure.message.endswith("Cannot connect to host api.example:443 [Name or service not known]")


def test_a_traceback_in_an_error_is_left_out() -> None:
    text = 'Invalid response object Traceback (most recent call last):\n  File "/srv/gateway/x.py", line 1, in f\nValueError'
    failure = failure_of(provider.APIConnectionError(text, "openai", "m"), NONE)
    prefix = pattern_of("llm_unavailable: the provider does not answer").removesuffix("down")
    assert re.fullmatch(f"{prefix}Invalid response object", failure.message)


def test_the_provider_s_own_words_are_kept_without_wrapping_and_without_length() -> None:
    raw = 'litellm.BadRequestError: OpenAIException - {"error": {"message": "Unknown \\"field\\".\\nSorry.", "type": "x"}}'
    said = failure_of(sdk.LLMBadRequestError(raw), NONE).message
    prefix = pattern_of("llm_bad_request").removesuffix(re.escape("no such parameter"))
    assert re.fullmatch(f'{prefix}Unknown "field"\\. Sorry\\.', said)
    assert len(failure_of(sdk.LLMBadRequestError("x" * 10_000), NONE).message) < 600


@pytest.mark.parametrize(
    ("text", "after_s"),
    [
        ('"retryDelay": "48s"', 48.0),
        ('"retryDelay": "0.5s"', 0.5),
        ('"retryDelay": "4000s"', 60.0),
        ("Limit 30000, Used 29000. Please try again in 7.66s. Visit our site.", 7.66),
        ("Please try again in 1m12.5s.", 60.0),
        ("Please try again in 430ms.", 0.43),
        ("Please retry after 6 seconds.", 6.0),
        ("Please try again later in the day.", None),
        ("soon", None),
    ],
)
def test_a_rate_limit_that_says_when_says_it_to_the_caller(text: str, after_s: float | None) -> None:
    error = caused(sdk.LLMRateLimitError("no"), provider.RateLimitError(text, "openai", "m"))
    assert failure_of(error, NONE).retry_after_s == after_s


@pytest.mark.parametrize(
    ("headers", "after_s"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after": "Mon, 30 Nov 2026 09:00:30 GMT", "date": "Mon, 30 Nov 2026 09:00:00 GMT"}, 30.0),
        ({"retry-after": "Mon, 30 Nov 2026 09:00:30 GMT"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_a_requested_wait_is_read_from_the_headers(headers: dict[str, str], after_s: float | None) -> None:
    response = httpx.Response(429, headers=headers, request=httpx.Request("POST", "https://api.example"))
    error = provider.RateLimitError("slow", "openai", "m", response=response)
    assert requested_wait_s(caused(sdk.LLMRateLimitError("no"), error)) == after_s


@pytest.mark.parametrize(
    "credential",
    [
        "sk-abcdef123456",
        "sk-ab********************ef",
        "Bearer abcdef123456",
        "AIzaSyA1234567890abcdef",
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_abcdefgh12345678",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
        "d41d8cd98f00b204e9800998ecf8427e",
    ],
)
def test_whatever_looks_like_a_credential_is_hidden(credential: str) -> None:
    masked = mask_credentials(f"The key {credential} is wrong, see https://example.org/help.", NONE)
    assert masked == f"The key {HIDDEN} is wrong, see https://example.org/help."


def test_a_known_secret_is_hidden_whatever_it_looks_like() -> None:
    error = sdk.LLMAuthenticationError("the pass phrase open sesame is wrong")
    assert "open sesame" not in failure_of(error, Secrets.of(["open sesame"])).message
