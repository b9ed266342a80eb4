"""The OpenAPI document: complete, with examples that fit, and true of what a running gateway sends."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from pydantic import TypeAdapter

from a2a_gateway import Gateway, Settings
from a2a_gateway.server.app import app_of
from a2a_gateway.testing.script import Step
from a2a_gateway.wire import examples
from a2a_gateway.wire.chat import examples as chat_examples
from a2a_gateway.wire.chat.schemas import CompletionObject
from a2a_gateway.wire.schemas import (
    ErrorBody,
    HealthObject,
    KeySetObject,
    ModelListObject,
    ModelObject,
    ProfileListObject,
    ReadinessObject,
    RunDetailsObject,
    RunListObject,
    RunObject,
    RunTreeObject,
)
from tests.support.ask import delegation, user
from tests.support.gateway import GatewayUnderTest

pytestmark = pytest.mark.anyio
PRICED = "openhands_priced"
WITHOUT_KEY = {"/health", "/ready", "/.well-known/jwks.json"}
CANNOT_FAIL = {"/health", "/ready"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return app_of(Gateway(Settings(profiles=()), {})).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            yield path, operation


def bodies(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield all bodies that an operation documents, by media type."""
    yield from operation.get("requestBody", {}).get("content", {}).items()
    for response in operation["responses"].values():
        yield from response.get("content", {}).items()


async def test_every_route_has_a_summary_and_a_typed_success(document: dict[str, Any]) -> None:
    for path, operation in operations(document):
        assert operation["summary"] and operation["description"], path
        for media_type, body in operation["responses"]["200"]["content"].items():
            assert ("type" if media_type == "text/event-stream" else "$ref") in body["schema"], path
            assert body["example"], path


async def test_every_route_that_can_fail_documents_its_errors(document: dict[str, Any]) -> None:
    for path, operation in operations(document):
        errors = {status: response for status, response in operation["responses"].items() if status != "200"}
        if path in CANNOT_FAIL:
            continue
        assert {"500", "503", "default"} <= set(errors), path
        assert {"401", "403", "404"} <= set(errors) or path in WITHOUT_KEY, path
        for response in errors.values():
            assert response["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/ErrorBody"}, path


async def test_every_route_that_takes_a_key_has_the_authorize_button(document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"
    secured = {path for path, operation in operations(document) if {"ApiKey": []} in operation.get("security", ())}
    assert secured == set(document["paths"]) - WITHOUT_KEY


def without_required_nulls(schema: Any) -> Any:
    """Allow nullable properties to be absent: FastAPI leaves null out of every example."""
    if not isinstance(schema, dict):
        return schema
    kept = {name: without_required_nulls(value) for name, value in schema.items()}
    if isinstance(required := schema.get("required"), list):
        properties = schema["properties"]
        kept["required"] = [name for name in required if not _is_nullable(properties[name])]
    return kept


def _is_nullable(schema: dict[str, Any]) -> bool:
    return schema.get("type") == "null" or {"type": "null"} in schema.get("anyOf", ())


async def test_every_example_fits_its_schema(document: dict[str, Any]) -> None:
    checked, components = 0, without_required_nulls(document["components"])
    for path, operation in operations(document):
        for media_type, body in bodies(operation):
            if "example" not in body or media_type != "application/json":
                continue
            validator = jsonschema_rs.validator_for({**body["schema"], "components": components})
            assert [str(error) for error in validator.iter_errors(body["example"])] == [], path
            checked += 1
    assert checked > len(document["paths"])


async def test_the_request_schema_accepts_and_refuses_what_the_gateway_does(document: dict[str, Any]) -> None:
    schema = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "$ref" not in json.dumps(schema)
    validator = jsonschema_rs.validator_for(schema)
    asked = {"model": PRICED, "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "stream": True, "x": 1}
    assert validator.is_valid(asked)
    refused: list[dict[str, Any]] = [
        {"messages": []},
        {"messages": [{"role": "unknown", "content": ""}]},
        {"temperature": 3},
        {"model": None},
    ]
    for wrong in refused:
        assert not validator.is_valid({**asked, **wrong})


def assert_is(kind: Any, sent: object) -> None:
    """Check that an answer has exactly the documented fields, with values of the documented types."""
    adapter = TypeAdapter[Any](kind)
    assert adapter.dump_python(adapter.validate_python(sent, strict=True), mode="json") == sent


async def test_what_a_gateway_sends_is_what_the_document_says(gateway: GatewayUnderTest) -> None:
    task = user("Go.", Step(tool_calls=(delegation(PRICED, "Help.", Step("Helped.")),)), Step("Done."))
    async with gateway.http() as http:
        completion = await http.post(
            "/v1/chat/completions",
            json={"model": PRICED, "messages": [task]},
            headers={"Idempotency-Key": "documented", "X-A2A-Narration": "reasoning"},
        )
        assert_is(CompletionObject, completion.json())
        run = f"/v1/runs/{completion.headers['x-a2a-run-id']}"
        for path, kind in {
            "/v1/models": ModelListObject,
            "/v1/profiles": ProfileListObject,
            f"/v1/models/{PRICED}": ModelObject,
            "/v1/runs": RunListObject,
            "/v1/runs?idempotency_key=documented": RunListObject,
            run: RunDetailsObject,
            f"{run}/tree": RunTreeObject,
            "/.well-known/jwks.json": KeySetObject,
            "/health": HealthObject,
            "/ready": ReadinessObject,
        }.items():
            answer = await http.get(path)
            assert answer.status_code == 200
            assert_is(kind, answer.json())
        tree = (await http.get(f"{run}/tree")).json()
        assert (tree["descendants"], len(tree["children"])) == (1, 1)
        assert (await http.get(run)).json()["answer"]["text"] == "Done."
        for path, headers in ((f"{run}/cancel", {}), ("/v1/runs/cancel", {"Idempotency-Key": "documented"})):
            assert_is(RunObject, (await http.post(path, headers=headers)).json())


async def test_an_error_is_what_the_document_says_before_and_after_a_run_began(gateway: GatewayUnderTest) -> None:
    request = {"model": PRICED, "messages": [user("Go.", Step(status=400))]}
    async with gateway.http() as http:
        unreadable = await http.post("/v1/chat/completions", content=b"{")
        failed = await http.post("/v1/chat/completions", json=request)
        missing = await http.get("/v1/runs/none")
        run = await http.get(f"/v1/runs/{failed.headers['x-a2a-run-id']}")
    assert [answer.status_code for answer in (unreadable, failed, missing, run)] == [400, 400, 404, 200]
    for answer in (unreadable, failed, missing):
        assert_is(ErrorBody, answer.json())
    assert_is(RunDetailsObject, run.json())


@pytest.mark.parametrize(
    ("kind", "example"),
    [
        (CompletionObject, chat_examples.COMPLETION),
        (ErrorBody, examples.ERROR),
        (ModelListObject, examples.MODELS),
        (ModelObject, examples.MODEL),
        (RunDetailsObject, examples.RUN_DETAILS),
        (RunListObject, examples.RUNS),
        (RunObject, examples.RUN),
        (RunTreeObject, examples.RUN_TREE),
        (KeySetObject, examples.KEY_SET),
        (HealthObject, examples.HEALTH),
        (ReadinessObject, examples.READINESS),
    ],
    ids=lambda value: getattr(value, "__name__", "example"),
)
async def test_an_example_has_exactly_the_fields_of_its_type(kind: Any, example: object) -> None:
    assert_is(kind, example)
