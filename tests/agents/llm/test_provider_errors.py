"""What providers' refusals mean, in their own words, after LiteLLM has made its errors of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from litellm import exception_type
from litellm.llms.base_llm.chat.transformation import BaseLLMException
from openhands.sdk.llm.exceptions import LLMContextWindowExceedError
from openhands.sdk.llm.exceptions.mapping import map_provider_exception

from a2a_gateway.agents.llm.error_translation import failure_of, requested_wait_s
from a2a_gateway.agents.llm.finish_reasons import translate_failure
from a2a_gateway.provider_errors import is_beyond_limit, meaning_of
from delegate_tool.masking import Secrets

TOO_LONG = "context_length_exceeded"


@dataclass(frozen=True)
class Refusal:
    """One row of `provider_refusals.yaml`."""

    of: str
    provider: str
    status: int
    code: str
    answer: str | Mapping[str, object]

    def raised(self) -> Exception:
        """Make of the answer what LiteLLM raises."""
        text = self.answer if isinstance(self.answer, str) else json.dumps(self.answer, ensure_ascii=False)
        request = httpx.Request("POST", "https://provider.example")
        response = httpx.Response(self.status, request=request)
        try:
            try:
                raise httpx.HTTPStatusError("no", request=request, response=response)
            except httpx.HTTPStatusError as answered:
                error = BaseLLMException(status_code=self.status, message=text, request=request, response=response)
                raise error from answered
        except BaseLLMException as error:
            try:
                exception_type(model="some-model", original_exception=error, custom_llm_provider=self.provider)
            except Exception as mapped:  # noqa: BLE001  # of which class it is is the question
                return mapped
        raise AssertionError("LiteLLM raised nothing")


REFUSALS = [Refusal(**row) for row in yaml.safe_load((Path(__file__).parent / "provider_refusals.yaml").read_text())]


@pytest.mark.parametrize("refusal", REFUSALS, ids=[refusal.of for refusal in REFUSALS])
def test_a_refusal_has_the_code_of_its_reason(refusal: Refusal) -> None:
    error = refusal.raised()
    judged = translate_failure(error, is_shown=False)
    judged.__cause__ = None if judged is error else error
    assert failure_of(judged, Secrets()).code == refusal.code
    # The SDK has a conversation summarised for this class, and for no other.
    assert isinstance(map_provider_exception(judged), LLMContextWindowExceedError) == (refusal.code == TOO_LONG)


def test_a_request_beyond_a_minute_s_limit_is_known_from_one_that_may_pass() -> None:
    beyond = next(refusal for refusal in REFUSALS if refusal.of == "Groq, more than a minute's tokens").raised()
    assert is_beyond_limit(str(beyond))
    text = "Rate limit reached (TPM): Limit 6000, Used 5034, Requested 1443. Please try again in 4.77s."
    assert not is_beyond_limit(text)
    assert requested_wait_s(Refusal("Groq", "groq", 429, "llm_rate_limited", text).raised()) == 4.77


@pytest.mark.parametrize("text", ["", "no", "The tool crashed: the file is too long.", "temperature must be at most 1"])
def test_words_without_a_meaning_have_none(text: str) -> None:
    assert meaning_of(text) is None
