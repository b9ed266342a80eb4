"""Tools rendered from memory: the same as the SDK renders them, and no run sees what another did to its own."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, ClassVar, Self

import mcp.types
import pytest
from openhands.sdk.mcp.tool import MCPToolDefinition
from openhands.sdk.tool import Action, Observation, ToolAnnotations, ToolDefinition
from openhands.sdk.tool.builtins import FinishTool, ThinkTool

from a2a_gateway.agents.llm.tool_schemas import RenderedTool, ToolSchemas
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.agents.driver import a_recipe, an_llm, driving, user

pytestmark = pytest.mark.anyio


class SampleSchemaAction(Action):
    """What the sample tool takes."""

    path: str
    lines: list[int] | None = None


class SampleSchemaTool(ToolDefinition[SampleSchemaAction, Observation]):
    name: ClassVar[str] = "sample"

    @classmethod
    def create(cls, *_: Any, description: str = "Samples.", read_only: bool = False, **__: Any) -> Sequence[Self]:
        annotations = ToolAnnotations(readOnlyHint=read_only)
        return [cls(description=description, action_type=SampleSchemaAction, annotations=annotations)]


def sample(**changes: Any) -> ToolDefinition[Any, Any]:
    return SampleSchemaTool.create(**changes)[0]


@pytest.mark.parametrize("options", [{}, {"add_security_risk_prediction": True}, {"add_security_risk_prediction": False}])
def test_a_tool_is_rendered_as_the_sdk_does_it_the_second_time_too(options: dict[str, Any]) -> None:
    schemas = ToolSchemas()
    tools = [sample(), sample(read_only=True), *FinishTool.create(), *ThinkTool.create()]
    for tool in [*tools, *tools]:
        assert RenderedTool(tool, schemas).to_openai_tool(**options) == tool.to_openai_tool(**options)


def test_what_a_caller_does_to_its_rendering_stays_there() -> None:
    schemas, tool = ToolSchemas(), sample()
    mine = schemas.render(tool)
    mine["function"]["parameters"]["properties"].clear()
    assert schemas.render(tool) == tool.to_openai_tool()


def test_two_runs_tools_that_differ_in_their_description_share_the_rest() -> None:
    schemas = ToolSchemas()
    rendered = [schemas.render(sample(description=f"Samples {place}.")) for place in ("/a", "/b", "/a")]
    assert [one["function"]["description"] for one in rendered] == ["Samples /a.", "Samples /b.", "Samples /a."]
    assert len(schemas) == 1


def test_tools_of_one_name_with_different_answers_are_kept_apart() -> None:
    schemas = ToolSchemas()
    answers = [{"type": "object", "properties": {name: {"type": "string"}}, "required": [name]} for name in ("city", "country")]
    for answer in [*answers, *answers]:
        tool = sample().model_copy(update={"response_schema": answer})
        assert schemas.render(tool) == tool.to_openai_tool()


def test_mcp_tools_of_one_name_and_description_keep_their_own_schemas() -> None:
    schemas = ToolSchemas()
    for field in ("city", "country"):
        given = mcp.types.Tool(
            name="look", description="Looks.", inputSchema={"type": "object", "properties": {field: {"type": "string"}}}
        )
        client: Any = None  # it is asked only when the tool is called
        [tool] = MCPToolDefinition.create(given, client)
        rendered = schemas.render(tool)
        assert rendered == tool.to_openai_tool()
        assert field in rendered["function"]["parameters"]["properties"]


def test_it_remembers_no_more_than_its_bound() -> None:
    schemas = ToolSchemas(most=2)
    for title in ("a", "b", "c"):
        schemas.render(sample().model_copy(update={"annotations": ToolAnnotations(title=title)}))
    assert len(schemas) == 2


async def test_an_agent_s_tools_name_its_own_workspace_in_every_run(tmp_path: Path) -> None:
    names = ("terminal", "file_editor", "grep", "glob", "task_tracker")
    one, two = mkdtemp(dir=tmp_path), mkdtemp(dir=tmp_path)
    async with ScriptedLLM() as llm, driving(tmp_path, a_recipe(an_llm(llm.base_url), *names)) as driver:
        for place in (one, two):
            await driver.run(user("hi"), workspace_dir=place)
    first, second = (str(request.body["tools"]) for request in llm.traffic.requests)
    assert one in first
    assert second == first.replace(one, two)
