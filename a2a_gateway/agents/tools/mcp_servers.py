"""Start the MCP servers of a profile for one run, and end them with it.

OpenHands itself goes on without the tools of a server that does not start, and the agent then answers as if they did not exist.
Here such a server fails the run. Each server has a client of the SDK, with an event loop in a thread of its own:

    start   all servers, side by side; each must list its tools within `START_S`, and the first that fails stops the others
    stop    from any thread, for a cancel or a deadline: the servers that still start are given up
    close   ends the connections and the processes, also of a server without tools
"""

import asyncio
import os
import re
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any, Final, TextIO

import httpx
import mcp.types
from fastmcp.client.messages import MessageHandler
from fastmcp.client.transports import ClientTransport, StdioTransport
from fastmcp.mcp_config import MCPConfig
from mcp.shared.exceptions import McpError
from openhands.sdk.llm import TextContent
from openhands.sdk.mcp import MCPClient, MCPServer, MCPToolDefinition, MCPToolExecutor, MCPToolObservation, to_fastmcp_mcp_config
from openhands.sdk.mcp.definition import MCPToolAction
from openhands.sdk.utils import maybe_truncate

from a2a_gateway.errors import AgentFailed
from delegate_tool.masking import Secrets

START_S: Final = 30.0
"""How long a server may take until it has listed its tools: `npx` and `uvx` may have to fetch it first."""
_QUOTED_CHARS: Final = 300
_KEPT_BYTES: Final = 4096
_LAST_WORDS_S: Final = 0.5
_END_S: Final = 10.0
"""More than MCP's client takes to end a process with SIGTERM, then SIGKILL."""
_WATCH_S: Final = 0.1
_NOT_OF_NAMES: Final = re.compile(r"[^A-Za-z0-9_-]")
_RESULT_CHARS: Final = 30_000
"""As for the output of a command."""
_NAME_CHARS: Final = 64
"""LLM providers refuse a request with a longer name of a tool, or with other characters in it."""

type OnTools = Callable[[Sequence[MCPToolDefinition]], None]


class McpServers:
    """The MCP servers of one run. A tool keeps its name if there is one server; otherwise its name is `{server}_{tool}`.

    So is that of a tool whose own name is one of the agent's other tools.
    """

    def __init__(self, config: Mapping[str, MCPServer], secrets: Secrets) -> None:
        self._servers = [_Server(name, server) for name, server in config.items()]
        self._secrets = secrets

    def start(self, taken: Collection[str], on_tools: OnTools) -> None:
        """Start all servers and hand their tools to `on_tools`; again when a server reports that it has others.

        Args:
            taken: names of the agent's other tools.

        Raises:
            AgentFailed: a server did not start, or `stop` was called.
        """
        if not self._servers:
            return
        with ThreadPoolExecutor(len(self._servers), thread_name_prefix="mcp-start") as threads:
            starts = {threads.submit(server.start): server for server in self._servers}
            done, waiting = wait(starts, return_when=FIRST_EXCEPTION)
            if waiting:
                self.stop()
        for future in done:
            if error := future.exception():
                raise self._failure(starts[future], error)
        for server in self._servers:
            try:
                server.offer(taken, on_tools, is_only=len(self._servers) == 1)
            except ValueError as error:  # two tools of one name, or a definition that the SDK refuses
                raise self._failure(server, error) from None

    def stop(self) -> None:
        """Give up the servers that still start."""
        for server in self._servers:
            server.stop()

    def close(self) -> None:
        """End the connections, and the processes that were started."""
        if self._servers:
            with ThreadPoolExecutor(len(self._servers), thread_name_prefix="mcp-close") as threads:
                list(threads.map(_Server.close, self._servers))

    def _failure(self, server: "_Server", error: BaseException) -> AgentFailed:
        reason = self._secrets.mask(_reason(error))[:_QUOTED_CHARS]
        last_line = self._secrets.mask(server.errors.last_line)[:_QUOTED_CHARS]
        said = f" The last line of its standard error: {last_line}" if last_line else ""
        return AgentFailed(
            f"The MCP server {server.name!r} did not start: {reason}. The agent does not run without its tools: correct the "
            f"server, or its entry in the profile.{said}"
        )


class _Server(MessageHandler):
    """One server and its client. The coroutines run on the client's event loop."""

    def __init__(self, name: str, server: MCPServer) -> None:
        super().__init__()
        self.name = name
        self.errors = _ErrorOutput()
        self._config = MCPConfig.model_validate(to_fastmcp_mcp_config({name: server})).mcpServers[name]
        self._client: MCPClient | None = None
        self._tools: Sequence[mcp.types.Tool] = ()
        self._offer: Callable[[], None] | None = None
        self._starting: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._is_stopped = False
        self._is_stale = False
        self._refreshing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the server and list its tools; raises what prevents it."""
        transport = self._config.to_transport()
        untyped: Any = MCPClient
        self._client = client = untyped(transport, log_handler=_ignore, message_handler=self)
        client.call_async_from_sync(self._connect, client, timeout=START_S + 2 * _END_S)

    def stop(self) -> None:
        """Give up the start, if it is under way or has not begun."""
        was_stopped, self._is_stopped = self._is_stopped, True
        if not was_stopped and self._starting is not None:
            loop, task = self._starting
            with suppress(RuntimeError):  # the loop has just been closed
                loop.call_soon_threadsafe(task.cancel)

    def close(self) -> None:
        """End the connection and the process."""
        if self._client is not None:
            self._client.call_async_from_sync(self._end_process, self._client.transport, timeout=2 * _END_S)
            self._client.sync_close()
        self.errors.close()

    def offer(self, taken: Collection[str], on_tools: OnTools, *, is_only: bool) -> None:
        """Hand the tools to `on_tools`, now and whenever the server reports others."""

        def definition_of(tool: mcp.types.Tool, client: MCPClient) -> MCPToolDefinition:
            name = _NOT_OF_NAMES.sub("_", tool.name)
            if not is_only or name in taken:
                name = f"{_NOT_OF_NAMES.sub('_', self.name)}_{name}"
            [definition] = MCPToolDefinition.create(tool.model_copy(update={"name": name[:_NAME_CHARS]}), client)
            return definition.set_executor(_Executor(tool.name, client))

        def offer() -> None:
            if self._client is not None:
                on_tools([definition_of(tool, self._client) for tool in self._tools])

        offer()
        self._offer = offer

    async def on_tool_list_changed(self, message: mcp.types.ToolListChangedNotification) -> None:
        """Fetch the list again, in a task: this method must not keep the client from receiving the response."""
        self._is_stale = True
        if self._offer is not None and (self._refreshing is None or self._refreshing.done()):
            self._refreshing = asyncio.create_task(self._refresh(self._offer))

    async def _refresh(self, offer: Callable[[], None]) -> None:
        while self._is_stale and self._client is not None:
            self._is_stale = False
            with suppress(McpError, RuntimeError, ValueError):  # the tools that the agent has stay, and report their own errors
                self._tools = await self._client.list_tools()
                offer()

    async def _connect(self, client: MCPClient) -> None:
        if (task := asyncio.current_task()) is not None:
            self._starting = asyncio.get_running_loop(), task
        if self._is_stopped:
            raise asyncio.CancelledError
        transport = client.transport
        if isinstance(transport, StdioTransport):
            transport.log_file = await self.errors.open()
            tasks = [asyncio.create_task(self._list_tools(client)), asyncio.create_task(_wait_for_end(transport))]
        else:
            tasks = [asyncio.create_task(self._list_tools(client))]
        try:
            async with asyncio.timeout(START_S):
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                ended.result()
        except BaseException:
            self._starting = None
            await self._end_process(transport)  # first, because the client, if it is cancelled, leaves children of the process
            await self.errors.end()
            raise
        finally:
            self._starting = None
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _end_process(self, transport: ClientTransport) -> None:
        untyped: Any = transport
        # Its own task may have been cancelled with the session. What is left is killed with the client's event loop.
        with suppress(TimeoutError, asyncio.CancelledError, McpError, OSError, RuntimeError):
            async with asyncio.timeout(_END_S):
                await untyped.close()

    async def _list_tools(self, client: MCPClient) -> None:
        await client.connect()
        self._tools = await client.list_tools()


class _Executor(MCPToolExecutor):
    """Calls a tool, and truncates its result in the middle: a server may return any amount of text."""

    async def call_tool(self, action: MCPToolAction) -> MCPToolObservation:  # type: ignore[override]  # a decorator drops its types
        untyped: Any = super()
        observation: MCPToolObservation = await untyped.call_tool(action)
        text = maybe_truncate(observation.text, _RESULT_CHARS)
        if text == observation.text:
            return observation
        images = [item for item in observation.content if not isinstance(item, TextContent)]
        return observation.model_copy(update={"content": [TextContent(text=text), *images]})


class _ErrorOutput(asyncio.Protocol):
    """Reads what a process writes to its standard error, and keeps the last of it."""

    def __init__(self) -> None:
        self._kept = b""
        self._file: TextIO | None = None
        self._ended = asyncio.Event()

    @property
    def last_line(self) -> str:
        """The last line with text in it; empty if there is none."""
        lines = deque(filter(None, map(str.strip, self._kept.decode(errors="replace").splitlines())), maxlen=1)
        return lines[0] if lines else ""

    async def open(self) -> TextIO:
        """Open a pipe on the running event loop; return its end for the process."""
        read, write = os.pipe()
        self._file = os.fdopen(write, "w")
        await asyncio.get_running_loop().connect_read_pipe(lambda: self, os.fdopen(read, "rb", buffering=0))
        return self._file

    async def end(self) -> None:
        """Read what a process that has ended wrote last."""
        if self._file is not None:
            self.close()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), _LAST_WORDS_S)

    def close(self) -> None:
        """Close this process's end of the pipe. The event loop closes the other."""
        if self._file is not None:
            self._file.close()

    def data_received(self, data: bytes) -> None:
        self._kept = (self._kept + data)[-_KEPT_BYTES:]

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended.set()


async def _wait_for_end(transport: StdioTransport) -> None:
    """Raise once the process has ended. MCP's client does not notice if that was before its first request."""
    while not transport._is_session_dead():  # noqa: ASYNC110  # it has no event
        await asyncio.sleep(_WATCH_S)
    raise EOFError


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error.__cause__ is not None and not isinstance(error, TimeoutError):
        return _reason(error.__cause__)
    match error:
        case TimeoutError():
            return f"it did not list its tools within {START_S:g} s"
        case OSError() if error.strerror:
            return f"{error.strerror}{f': {error.filename}' if error.filename else ''}"
        case httpx.HTTPStatusError():  # its text has the URL, which may contain a credential
            return f"it answered with HTTP {error.response.status_code}"
        case EOFError():
            return "it ended"
        case McpError() if error.error.code == mcp.types.CONNECTION_CLOSED:
            return "it ended, or closed the connection"
        case _:
            return str(error).partition("\n")[0] or type(error).__name__


async def _ignore(_: object) -> None:
    """Drop a log message of a server."""
