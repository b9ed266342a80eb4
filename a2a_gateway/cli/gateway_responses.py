"""What the command line reads of a gateway's responses."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class TokenCounts(BaseModel):
    prompt: int
    completion: int


class RunCost(BaseModel):
    """Decimal amounts of USD; `tree` includes all descendants, `reserved` is set aside for calls under way."""

    self: str
    tree: str
    reserved: str = "0.000000"
    complete: bool


class RunLimits(BaseModel):
    model_config = ConfigDict(extra="allow")

    max_depth: int


class ListedRun(BaseModel):
    """A run as the gateway reports it, with the runs below it. Members that are not declared here are kept for `--json`."""

    model_config = ConfigDict(extra="allow")

    id: str
    agent: str
    depth: int
    state: str
    conversation_id: str | None = None
    created_at: str
    seconds: float
    turns: int
    tokens: TokenCounts
    cost: RunCost
    descendants: int
    limits: RunLimits
    stop_reason: str | None = None
    error_code: str | None = None
    gateway: str | None = None
    unreachable: str | None = None
    children: tuple["ListedRun", ...] = ()


class RunTask(BaseModel):
    text: str
    truncated: bool


class RunAnswer(BaseModel):
    model_config = ConfigDict(extra="allow")

    text: str


class RunFailure(BaseModel):
    model_config = ConfigDict(extra="allow")

    code: str
    message: str


class RunDetails(ListedRun):
    """One run with what is kept of it; `children` are the runs directly below it."""

    tree_id: str
    parent_id: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    task: RunTask | None = None
    workspace: str | None = None
    answer: RunAnswer | None = None
    error: RunFailure | None = None


class ListedProfile(BaseModel):
    """A profile as its operator sees it. Members that are not declared here are kept for `--json`."""

    model_config = ConfigDict(extra="allow")

    id: str
    name: str
    description: str
    capabilities: dict[str, object]
    limits: dict[str, object]
    llm: str
    mcp_servers: list[str]
    source: str

    @property
    def tools(self) -> list[str]:
        """The names of its tools, and of its MCP servers as `mcp:NAME`."""
        tools = self.capabilities.get("tools")
        return [*(map(str, tools) if isinstance(tools, list) else ()), *(f"mcp:{name}" for name in self.mcp_servers)]


class ListedProblem(BaseModel):
    """What is wrong with a profile, and where."""

    path: str
    line: int | None
    message: str
    severity: Literal["error", "warning"]
    topic: Literal["profile", "price"]

    def __str__(self) -> str:
        """Render it as compilers do: path, line, message."""
        where = f"{self.path}{f':{self.line}' if self.line else ''}"
        return f"{where}: {'warning: ' if self.severity == 'warning' else ''}{self.message}"


class ProfileListing(BaseModel):
    """The profiles that can be used, and what is wrong with these and with others."""

    data: list[ListedProfile]
    problems: list[ListedProblem]
    directories: list[str]


class RunList(BaseModel):
    data: list[ListedRun]
