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


def test_a_number_beyond_all_measure_is_the_answer_s_fault() -> None:
    form = AnswerForm(AnswerFormat("json_schema", schema={"multipleOf": 0.1}))
    with pytest.raises(AnswerInvalid, match="too large"):
        form.check("1" + "0" * 400)


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


_DOUBLING: dict[str, object] = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(60)} | {"d60": True}


@pytest.mark.parametrize(
    ("schema", "code"),
    [
        ({"items": {"pattern": "^(a|a)*$"}}, "unsupported_parameter"),
        ({"$defs": _DOUBLING, "$ref": "#/$defs/d0"}, "unsupported_parameter"),
        ({"anyOf": [{"patternProperties": {"^(a|a)*$": True}}]}, "unsupported_parameter"),
        ({"$ref": "#"}, "invalid_request_error"),
        ({"items": {"pattern": "((a{1000}){1000}){1000}"}}, "invalid_request_error"),
        ({"items": {"pattern": "a" * 3000}}, "invalid_request_error"),
    ],
    ids=["backtracking", "doubling", "pattern-properties", "endless", "repetitions", "long"],
)
def test_a_schema_that_asks_for_work_without_end_is_the_caller_s_error(schema: dict[str, object], code: str) -> None:
    with pytest.raises(GatewayError) as caught:
        AnswerForm(AnswerFormat("json_schema", schema=schema)).check(f'["{"a" * 60}!"]')
    assert (caught.value.code, caught.value.param) == (code, "response_format.json_schema.schema")


@pytest.mark.parametrize(("answer", "fits"), [('{"id": "ab-12"}', True), ('{"id": "12"}', False), ('{"id": 7}', True)])
def test_a_pattern_is_looked_for_in_strings(answer: str, fits: bool) -> None:
    form = AnswerForm(AnswerFormat("json_schema", schema={"properties": {"id": {"pattern": "^[a-z]+-[0-9]{2,4}$"}}}))
    if fits:
        assert form.check(answer) == answer
    else:
        with pytest.raises(AnswerInvalid, match=r"at \$\.id: '12' does not match"):
            form.check(answer)


def test_a_property_may_be_called_like_a_keyword() -> None:
    form = AnswerForm(AnswerFormat("json_schema", schema={"properties": {"patternProperties": {"type": "string"}}}))
    assert form.check('{"patternProperties": "x"}')
