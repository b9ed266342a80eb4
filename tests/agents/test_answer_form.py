"""The form of a final answer."""

from collections.abc import AsyncIterator

import pytest

from a2a_gateway.agents.answer_form import AnswerForm
from a2a_gateway.agents.schema_checker import SchemaChecker
from a2a_gateway.errors import AnswerInvalid, GatewayError
from a2a_gateway.runs.messages import AnswerFormat

pytestmark = pytest.mark.anyio

ANY_OBJECT = AnswerFormat("json_object")
CITY = AnswerFormat("json_schema", "city", {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]})


@pytest.fixture(scope="module")
async def checker() -> AsyncIterator[SchemaChecker]:
    async with SchemaChecker() as opened:
        yield opened


def a_form(schema: dict[str, object], checker: SchemaChecker) -> AnswerForm:
    return AnswerForm(AnswerFormat("json_schema", schema=schema), checker, user="ada")


@pytest.mark.parametrize(
    ("wanted", "answer", "expected"),
    [
        (ANY_OBJECT, ' {"a": 1}\n', '{"a": 1}'),
        (ANY_OBJECT, '```json\n{"a": 1}\n```', '{"a": 1}'),
        (ANY_OBJECT, '```\n{"a": 1}```', '{"a": 1}'),
        (CITY, '{"name": "Oslo"}', '{"name": "Oslo"}'),
        (CITY, r'{"name": "\ud83d"}', r'{"name": "\ud83d"}'),
        (AnswerFormat("json_schema", schema={"type": "array"}), "[1, 2]", "[1, 2]"),
    ],
)
async def test_an_answer_of_the_form_is_returned_without_its_fence(
    wanted: AnswerFormat, answer: str, expected: str, checker: SchemaChecker
) -> None:
    assert await AnswerForm(wanted, checker, user="ada").check(answer) == expected


@pytest.mark.parametrize(
    ("wanted", "answer", "place"),
    [
        (ANY_OBJECT, "Here it is: {}", ""),
        (ANY_OBJECT, "", ""),
        (ANY_OBJECT, '{"a": NaN}', ""),
        (ANY_OBJECT, "[" * 100_000, ""),
        (ANY_OBJECT, "[1]", ""),
        (CITY, '{"name": 7}', "$.name: "),
        (CITY, "{}", "$: "),
    ],
)
async def test_an_answer_without_the_form_is_refused_with_the_place(
    wanted: AnswerFormat, answer: str, place: str, checker: SchemaChecker
) -> None:
    with pytest.raises(GatewayError) as caught:
        await AnswerForm(wanted, checker, user="ada").check(answer)
    assert caught.value.code == "response_format_violated"
    assert place in caught.value.message


async def test_of_alternatives_the_one_that_fits_furthest_says_what_is_wrong(checker: SchemaChecker) -> None:
    form = a_form({"anyOf": [{"type": "null"}, {"properties": {"a": {"items": {"type": "string"}}}}]}, checker)
    with pytest.raises(AnswerInvalid, match=r"\$\.a\[1\]: "):
        await form.check('{"a": ["x", 3]}')


async def test_the_agent_is_told_the_schema_and_what_was_wrong(checker: SchemaChecker) -> None:
    form = AnswerForm(CITY, checker, user="ada")
    with pytest.raises(AnswerInvalid) as caught:
        await form.check("{}")
    assert '"required": ["name"]' in form.instruction()
    assert caught.value.message in form.correction(caught.value)


@pytest.mark.parametrize("pattern", ["^[a-z]+-[0-9]{2,4}$", r"^\p{Ll}+-\d+$", "^(?=ab)", "^ab" + "." * 3000 + "|b-"])
@pytest.mark.parametrize(("answer", "fits"), [('{"id": "ab-12"}', True), ('{"id": "12"}', False), ('{"id": 7}', True)])
async def test_a_pattern_is_looked_for_in_strings(pattern: str, answer: str, fits: bool, checker: SchemaChecker) -> None:
    form = a_form({"properties": {"id": {"pattern": pattern}}}, checker)
    if fits:
        assert await form.check(answer) == answer
    else:
        with pytest.raises(AnswerInvalid, match=r"\$\.id: "):
            await form.check(answer)


async def test_pattern_properties_are_checked(checker: SchemaChecker) -> None:
    form = a_form({"patternProperties": {"^n_": {"type": "number"}}}, checker)
    assert await form.check('{"n_a": 1, "x": "y"}')
    with pytest.raises(AnswerInvalid, match=r"\$\.n_a"):
        await form.check('{"n_a": "one"}')


async def test_a_property_may_be_called_like_a_keyword(checker: SchemaChecker) -> None:
    form = a_form({"properties": {"patternProperties": {"type": "string"}, "$schema": {}}}, checker)
    assert await form.check('{"patternProperties": "x", "$schema": "y"}')


@pytest.mark.parametrize(("digits", "fits"), [(400, True), (5000, False)])
async def test_a_number_beyond_all_measure_is_checked_or_the_answer_s_fault(
    digits: int, fits: bool, checker: SchemaChecker
) -> None:
    form = a_form({"multipleOf": 0.1}, checker)
    answer = "1" + "0" * digits
    if fits:
        assert await form.check(answer) == answer
    else:
        with pytest.raises(AnswerInvalid):
            await form.check(answer)
