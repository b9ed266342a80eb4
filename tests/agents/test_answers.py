"""The form of a final answer."""

import pytest

from a2a_gateway.agents.answers import AnswerForm
from a2a_gateway.errors import AnswerInvalid, GatewayError
from a2a_gateway.runs.messages import AnswerFormat

ANY_OBJECT = AnswerFormat("json_object")
CITY = AnswerFormat("json_schema", "city", {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]})


@pytest.mark.parametrize(
    ("wanted", "answer", "expected"),
    [
        (ANY_OBJECT, ' {"a": 1}\n', '{"a": 1}'),
        (ANY_OBJECT, '```json\n{"a": 1}\n```', '{"a": 1}'),
        (ANY_OBJECT, '```\n{"a": 1}```', '{"a": 1}'),
        (CITY, '{"name": "Oslo"}', '{"name": "Oslo"}'),
        (AnswerFormat("json_schema", schema={"type": "array"}), "[1, 2]", "[1, 2]"),
    ],
)
def test_an_answer_of_the_form_is_returned_without_its_fence(wanted: AnswerFormat, answer: str, expected: str) -> None:
    assert AnswerForm(wanted).check(answer) == expected


@pytest.mark.parametrize(
    ("wanted", "answer", "says"),
    [
        (ANY_OBJECT, "Here it is: {}", "not JSON"),
        (ANY_OBJECT, "", "not JSON"),
        (ANY_OBJECT, '{"a": NaN}', "not JSON"),
        (ANY_OBJECT, "[" * 100_000, "not JSON"),
        (ANY_OBJECT, "[1]", "not an object"),
        (CITY, '{"name": 7}', "at $.name"),
        (CITY, "{}", "'name' is a required property"),
    ],
)
def test_an_answer_without_the_form_is_refused_with_the_place(wanted: AnswerFormat, answer: str, says: str) -> None:
    with pytest.raises(GatewayError) as caught:
        AnswerForm(wanted).check(answer)
    assert caught.value.code == "response_format_violated"
    assert says in caught.value.message


def test_the_agent_is_told_the_schema_and_what_was_wrong() -> None:
    form = AnswerForm(CITY)
    with pytest.raises(AnswerInvalid) as caught:
        form.check("{}")
    assert '"required": ["name"]' in form.instruction()
    assert "'name' is a required property" in form.complaint(caught.value)


@pytest.mark.parametrize(
    "schema",
    [{"type": "no-such-type"}, {"$ref": "http://127.0.0.1:9/schema.json"}, {"$ref": "file:///etc/hostname"}],
)
def test_a_schema_that_is_none_or_lies_elsewhere_is_the_caller_s_error_and_nothing_is_fetched(schema: dict[str, object]) -> None:
    with pytest.raises(GatewayError) as caught:
        AnswerForm(AnswerFormat("json_schema", schema=schema)).check("{}")
    assert (caught.value.code, caught.value.param) == ("invalid_request_error", "response_format.json_schema.schema")
