"""Errors that servers send with status 200, as bodies."""

import json
from typing import Any

import pytest

from a2a_gateway.agents.llm.providers.refusals import MAX_REFUSAL_BYTES, may_be_refusal, refused_status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"error": {"message": "slow", "code": 429}}, 429),
        ({"error": {"message": "slow", "status": 503, "code": "busy"}}, 503),
        ({"error": {"message": "slow", "code": "busy"}}, 502),
        ({"error": {"message": "slow", "code": 7}}, 502),
        ({"error": "Model unloaded."}, 502),
        ({"error": None, "output": []}, None),
        ({"error": {}}, None),
        ({"error": {"message": "odd"}, "choices": [{"message": {"content": "but an answer"}}]}, None),
        ({"choices": [{"message": {"content": 'says "error"'}}]}, None),
    ],
)
def test_an_error_with_status_200_has_the_status_that_it_names(body: dict[str, Any], status: int | None) -> None:
    assert refused_status(json.dumps(body).encode()) == status


@pytest.mark.parametrize("body", [b"", b"no", b"[]", b'"error"', b'{"error', b'{"error": ' + b"[" * 10_000])
def test_what_is_no_json_object_is_no_error(body: bytes) -> None:
    assert refused_status(body) is None


def test_an_error_is_recognised_by_the_beginning_of_a_whole_body() -> None:
    assert all(map(may_be_refusal, (b"", b"\n \n", b"{", b'\n{"error": "x"}')))
    assert not any(map(may_be_refusal, (b"data: {", b"\n: ping", b"[", b"{" + b" " * MAX_REFUSAL_BYTES)))
