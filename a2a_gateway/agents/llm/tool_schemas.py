"""Cache the rendered schemas of tools for all runs. The SDK renders each tool for every turn, a tenth of a turn's CPU time."""

import json
from collections import OrderedDict
from typing import Any

from openhands.sdk.tool import ToolDefinition


class ToolSchemas:
    """A cache of the latest renderings. They have no description, because that names a run's workspace or its remaining limits.

    The cache contains only text, because a tool's executor belongs to one run. Any thread may use it.
    """

    def __init__(self, most: int = 512) -> None:
        self._most = most
        self._texts: OrderedDict[tuple[object, ...], str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._texts)

    def render(self, tool: ToolDefinition[Any, Any], **options: Any) -> Any:
        """Render a tool as its `to_openai_tool` does. The caller may change the result."""
        if _renders_itself(tool):
            return tool.to_openai_tool(**options)
        rendered = json.loads(self._text(tool, options))
        rendered["function"]["description"] = tool.description
        return rendered

    def utf8_bytes(self, tool: ToolDefinition[Any, Any]) -> int:
        """Return the length of a tool's rendering."""
        if _renders_itself(tool):
            return len(json.dumps(tool.to_openai_tool()))
        return len(self._text(tool, {})) + len(tool.description.encode("utf-8", "surrogatepass"))

    def _text(self, tool: ToolDefinition[Any, Any], options: dict[str, Any]) -> str:
        annotations = tool.annotations and tool.annotations.model_dump_json()
        key = (tool.name, tool.action_type, repr(tool.response_schema), annotations, repr(options))
        text = self._texts.get(key)
        if text is None:
            rendered = tool.to_openai_tool(**options)
            rendered["function"].pop("description", None)
            text = self._texts[key] = json.dumps(rendered)
            while len(self._texts) > self._most:
                self._texts.popitem(last=False)
        return text


def _renders_itself(tool: ToolDefinition[Any, Any]) -> bool:
    """Return whether a tool overrides its rendering. MCP's tools do: their schema is not that of their action type."""
    return type(tool).to_openai_tool is not ToolDefinition.to_openai_tool


class RenderedTool:
    """A tool whose rendering comes from the cache; everything else is delegated to the tool."""

    def __init__(self, tool: ToolDefinition[Any, Any], schemas: ToolSchemas) -> None:
        self._tool = tool
        self._schemas = schemas

    def to_openai_tool(self, **options: Any) -> Any:
        """See `ToolSchemas.render`."""
        return self._schemas.render(self._tool, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tool, name)
