"""The table of error codes: complete, without doubles, and what a client makes of codes that are not in it."""

import pytest

from delegate_tool.protocol.codes import (
    CLIENT_CODES,
    ERROR_CODES,
    ClientCode,
    ErrorCode,
    FromPeer,
    Retry,
    delegation_status,
    from_peer,
    remedy_of,
)
from delegate_tool.protocol.result import DelegationStatus


def test_every_code_stands_once_with_a_meaning_and_a_remedy() -> None:
    rows: list[ErrorCode | ClientCode] = [*ERROR_CODES.values(), *CLIENT_CODES.values()]
    assert len(rows) == len({row.code for row in rows}) > 50
    for row in rows:
        assert row.when, row.code
        assert row.remedy.endswith("."), row.code
        assert row.remedy.count(". ") == 0, row.code


def test_what_a_peer_has_not_executed_may_be_sent_again() -> None:
    for row in ERROR_CODES.values():
        assert row.from_peer is not FromPeer.NOT_EXECUTED or row.retry is not Retry.NO, row.code


@pytest.mark.parametrize(
    ("code", "http_status", "status"),
    [
        ("run_cancelled", 499, DelegationStatus.CANCELLED),
        ("model_unpriced", 400, DelegationStatus.REFUSED),
        ("budget_exceeded", 402, DelegationStatus.REFUSED),
        ("budget_exceeded", 400, DelegationStatus.FAILED),
        ("invalid_api_key", 401, DelegationStatus.FAILED),
        ("something_new", 403, DelegationStatus.REFUSED),
        ("something_new", 500, DelegationStatus.FAILED),
        ("http_404", 404, DelegationStatus.REFUSED),
    ],
)
def test_the_status_decides_unless_the_table_does(code: str, http_status: int, status: DelegationStatus) -> None:
    assert delegation_status(code, http_status) is status


def test_a_foreign_code_has_no_remedy_and_concerns_only_the_gateways() -> None:
    assert remedy_of("something_new") == ""
    assert from_peer("something_new") is FromPeer.REJECTED
