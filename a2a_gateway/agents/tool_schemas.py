"""Tools as an LLM is told of them, rendered once for all runs: the SDK renders each for every turn, a tenth of a turn's work."""

import json
from collections import OrderedDict
from typing import Any, Final

from openhands.sdk.tool import ToolDefinition

_MOST: Final = 512


class ToolSchemas:
    """Remembers renderings, the latest ones. It keeps texts only: a tool's executor belongs to one run. Any thread may use it."""

    def __init__(self) -> None:
        self._texts: OrderedDict[tuple[object, ...], str] = OrderedDict()

    def render(self, tool: ToolDefinition[Any, Any], **options: Any) -> Any:
        """Render as `ToolDefinition.to_openai_tool` does; the caller may change what it gets."""
        key = (tool.name, tool.description, tool.action_type, repr(tool.annotations), repr(options))
        text = self._texts.get(key)
        if text is None:
            text = self._texts[key] = json.dumps(tool.to_openai_tool(**options))
            while len(self._texts) > _MOST:
                self._texts.popitem(last=False)
        return json.loads(text)


class RenderedTool:
    """A tool that renders itself from memory, and is otherwise the tool."""

    def __init__(self, tool: ToolDefinition[Any, Any], schemas: ToolSchemas) -> None:
        self._tool = tool
        self._schemas = schemas

    def to_openai_tool(self, **options: Any) -> Any:
        """See `ToolSchemas.render`."""
        return self._schemas.render(self._tool, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tool, name)
