"""Errors on the wire: a status for each, OpenAI's object, and whether a retry can help."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2a_gateway.errors import (
    AuthenticationError,
    BudgetExceeded,
    CapacityExceeded,
    ConversationBusy,
    DepthExceeded,
    GatewayError,
    LLMRateLimited,
    LLMUnavailable,
    ModelNotFound,
    NotReady,
    RequestError,
    RunCancelled,
    RunLost,
    StoreError,
)
from a2a_gateway.wire.errors import PARTIAL_BYTES, error_object, render_error
from delegate_tool.protocol.codes import ERROR_CODES


def subclasses(cls: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield cls
    for subclass in cls.__subclasses__():
        yield from subclasses(subclass)


ALL = sorted({cls for cls in subclasses(GatewayError) if cls.__module__ == "a2a_gateway.errors"}, key=lambda cls: cls.__name__)


def test_the_table_has_exactly_the_codes_that_there_are() -> None:
    assert {cls.code for cls in ALL} == set(ERROR_CODES)


@pytest.mark.parametrize("cls", ALL)
def test_every_error_is_an_error_response_that_says_whether_to_retry(cls: type[GatewayError]) -> None:
    status, headers, body = render_error(cls("It failed."))
    assert 400 <= status <= 599
    assert headers["x-should-retry"] == ("true" if cls.retryable else "false")
    assert ("Retry-After" in headers) == (status in (429, 503))
    assert isinstance(body["error"], dict)
    assert (body["error"]["message"], body["error"]["code"]) == ("It failed.", cls.code)


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (RequestError("m"), 400, "invalid_request_error"),
        (AuthenticationError("m"), 401, "invalid_request_error"),
        (BudgetExceeded("m"), 402, "insufficient_quota"),
        (DepthExceeded("m"), 403, "permission_error"),
        (ModelNotFound("m"), 404, "invalid_request_error"),
        (ConversationBusy("m"), 409, "invalid_request_error"),
        (LLMRateLimited("m"), 429, "rate_limit_error"),
        (RunCancelled("m"), 499, "invalid_request_error"),
        (LLMUnavailable("m"), 502, "server_error"),
        (StoreError("m"), 503, "server_error"),
    ],
)
def test_status_and_type_are_those_of_openai(error: GatewayError, status: int, kind: str) -> None:
    response = render_error(error)
    assert (response.status, response.body["error"]) == (
        status,
        {"message": "m", "type": kind, "param": None, "code": error.code, "details": {}},
    )


def test_an_error_shows_its_param_and_its_details() -> None:
    error = DepthExceeded("Too deep.", param="X-A2A-Max-Depth", details={"depth": 3}).with_details(depth=9, max_depth=3)
    assert render_error(error) == (
        403,
        {"x-should-retry": "false"},
        {
            "error": {
                "message": "Too deep.",
                "type": "permission_error",
                "param": "X-A2A-Max-Depth",
                "code": "delegation_depth_exceeded",
                "details": {"depth": 3, "max_depth": 3},
            }
        },
    )


@pytest.mark.parametrize(
    ("asked", "sent"), [(None, "5"), (0.0, "1"), (-3.0, "1"), (0.2, "1"), (7.01, "8"), (600.0, "60"), (float("inf"), "60")]
)
def test_retry_after_is_a_whole_number_of_seconds_up_to_a_minute(asked: float | None, sent: str) -> None:
    assert render_error(CapacityExceeded("Full.", retry_after_s=asked)).headers == {"x-should-retry": "true", "Retry-After": sent}


def test_503_says_when_and_401_how() -> None:
    assert render_error(NotReady("Starting.")).headers == {"x-should-retry": "true", "Retry-After": "5"}
    assert render_error(RunLost("Lost.")).headers == {"x-should-retry": "false", "Retry-After": "5"}
    assert render_error(AuthenticationError("Who?")).headers == {"x-should-retry": "false", "WWW-Authenticate": "Bearer"}


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_partial_text_is_cut_between_characters(text: str) -> None:
    whole = text * (PARTIAL_BYTES // len(text.encode()) + 2)
    details = error_object(RunCancelled("m", details={"partial": whole}))["details"]
    assert isinstance(details, dict)
    partial = details["partial"]
    assert whole.startswith(partial)
    assert PARTIAL_BYTES - 4 < len(partial.encode()) <= PARTIAL_BYTES
