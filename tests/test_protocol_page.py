"""Holds `docs/protocol.md` against the code: its tables are complete, and its example is what a gateway answers."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest

from a2a_gateway import Gateway, Settings, create_router
from a2a_gateway.peers import SigningKey
from a2a_gateway.peers.grant import ASK_TYPE, GRANT_TYPE, Signer, encode_ask, encode_grant
from a2a_gateway.runs.model import Grant
from a2a_gateway.testing.script import Step
from a2a_gateway.wire.headers import final_headers, start_headers
from a2a_gateway.wire.usage import render_usage
from delegate_tool.protocol.codes import ERROR_CODES
from delegate_tool.protocol.context import DelegationContext, Narration, OnDisconnect, decode_body, encode_headers
from delegate_tool.protocol.limits import LIMITS, LimitPolicy
from tests.support.ask import call, user
from tests.support.gateway import scripted_gateway
from tests.wire.samples import RECORD, SUMMARY

PAGE = (Path(__file__).parent.parent / "docs" / "protocol.md").read_text()
ALL_ASKED = DelegationContext(
    max_depth=2,
    depth=1,
    budget_micro_usd=500_000,
    max_runs=3,
    max_breadth=4,
    timeout_s=5.0,
    max_turns=6,
    allowed_agents=frozenset({"openhands_a"}),
    via=("desk",),
    trail=("0f8e3f4f2a110b5dd1f05f0c4d0e9a3b",),
    on_disconnect=OnDisconnect.CONTINUE,
    narration=Narration.NONE,
    workspace="/srv/a project",
    idempotency_key="once",
    conversation_id="0b5dd1f0-5f0c-4d0e-9a3b-0f8e3f4f2a11",
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    tracestate="a=b",
)


def rows(heading: str, table: int = 0) -> list[list[str]]:
    """The cells of a table below a heading; its own head is left out."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    tables = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in tables[table].splitlines()[2:]]


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_page_lists_the_request_headers_and_which_a_body_may_hold() -> None:
    listed = {header: codes(field) for name, field, *_ in rows("Request headers") for header in codes(name)}
    headers = encode_headers(ALL_ASKED)
    assert set(listed) == set(headers)
    body = {field: headers[header] for header, fields in listed.items() for field in fields}
    assert decode_body(body) == replace(ALL_ASKED, traceparent=None, tracestate=None)


def test_the_page_describes_every_limit_as_the_table_does() -> None:
    described = {limit.header: [f"`{limit.header}`", f"`{limit.field}`", limit.codec.syntax, limit.meaning] for limit in LIMITS}
    assert {row[0].strip("`"): row for row in rows("Request headers") if row[0].strip("`") in described} == described


def test_the_page_lists_the_headers_of_an_answer() -> None:
    sent = {
        **start_headers(RECORD, request_id="r", now=RECORD.created_at, ignored=["tools"], is_replay=True),
        **final_headers(SUMMARY),
    }
    assert {name for first, *_ in rows("Answers") for name in codes(first)} == set(sent)


def test_the_usage_on_the_page_has_the_form_of_a_real_one() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert shape(json.loads(example)) == shape(render_usage(SUMMARY, gateway_id="here"))


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    return [shape(inner) for inner in value] if isinstance(value, list) else type(value)


def test_the_page_lists_every_error_as_the_table_of_codes_does() -> None:
    listed = [[codes(code)[0], int(status), retry, without_links(when)] for code, status, retry, when in rows("Errors")]
    assert listed == [[row.code, row.status, row.retry.value, row.when] for row in ERROR_CODES.values()]


def without_links(cell: str) -> str:
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", cell)


def test_the_page_lists_the_routes_of_runs_and_their_events(tmp_path: Path) -> None:
    from fastapi import FastAPI

    app = FastAPI()
    app.include_router(create_router(Gateway(Settings(data_dir=tmp_path))))
    routes = {f"{method.upper()} {path}" for path, methods in app.openapi()["paths"].items() for method in methods}
    assert {codes(first)[0] for first, *_ in rows("Watching and stopping")} == {name for name in routes if "/v1/runs" in name}


@pytest.mark.anyio
async def test_the_page_lists_the_events_of_a_run(tmp_path: Path) -> None:
    with scripted_gateway(tmp_path, shell_pool_size=0) as (gateway, _):
        async with gateway.client() as client, gateway.http() as http:
            answer = await client.chat.completions.create(
                model="openhands_default",
                messages=[user("Go.", Step("I look.", tool_calls=(call("terminal", command="true"),)), Step("Done."))],
                extra_headers={"Idempotency-Key": "kept"},
            )
            told = (await http.get(f"/v1/runs/{answer.id.removeprefix('chatcmpl-')}/events")).text
    facts = [json.loads(line.removeprefix("data: ")) for line in told.splitlines() if line.startswith("data: ")]
    words = codes(PAGE.partition("The events are ")[2].partition("\n## ")[0])
    assert facts
    for fact in facts:
        assert {fact["type"], "id", "type", "at", "run_id", "tree_id", "depth"} <= set(words)
        assert {"id", "type", "at", "run_id", "tree_id", "depth"} <= set(fact)


def test_the_page_lists_the_claims_of_a_grant_and_of_the_lesser_token() -> None:
    key = SigningKey.generate()
    signer = Signer("EdDSA", key.private, key.kid)
    policy = LimitPolicy(3, 5, 20, 30.0, 100, 500_000, frozenset({"openhands_a"}))
    grant = Grant("desk", "run", "tree", "jti", 2e9, "openhands_a", 1, policy, ("desk/openhands_lead",))
    token = encode_grant(grant, audience="box", signer=signer, now=1e9)
    assert {name for first, *_ in rows("Between gateways") for name in codes(first)} == claims(token)
    lesser = encode_ask("desk", audience="box", signer=signer, now=1e9)
    assert f"`typ: {GRANT_TYPE}`" in PAGE
    said = PAGE.partition(f"`typ: {ASK_TYPE}`")[2].partition(" alone")[0]
    assert set(codes(said)) == claims(lesser)


def claims(token: str) -> set[str]:
    return set(jwt.decode(token, options={"verify_signature": False}))
