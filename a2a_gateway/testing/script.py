"""Scripts: the answers of a scripted LLM as frozen data, and how they are found in a chat request. Pure.

`replies` renders a step, `scripted_llm` serves it; this module knows neither HTTP nor time.

A script is part of the text of a user message, so that a test has its question and the LLM's answers in one place:

    Please list the files. [[llm {"steps": [{"tool_calls": [{"name": "terminal", "arguments": {"command": "ls"}}]},
                                            {"content": "There they are: $LAST"}]}]]

The last marker of the last user message that has one is used. Each turn of the agent gets the next step: its index is the
number of assistant messages with tool calls after the marker. The last step repeats. A marker may contain another one in the
arguments of a tool call: the script of a delegated agent.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, ClassVar, Final, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

MARKER: Final = "[[llm "
_FORBID_UNKNOWN: Final = ConfigDict(extra="forbid", strict=True)


class ScriptError(ValueError):
    """A script is invalid; the message contains each location and its fault."""


@dataclass(frozen=True, slots=True)
class ScriptedCall:
    """A call that the LLM makes. `arguments` as text is sent unchanged, so that it can be malformed on purpose."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID_UNKNOWN

    name: str
    arguments: dict[str, Any] | str = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that the LLM reports; `cached_tokens` is part of `prompt_tokens`, `reasoning_tokens` part of `completion_tokens`."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID_UNKNOWN

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Gate:
    """A point where an answer waits until the gate of that name is opened.

    Attributes:
        opens_at: the number of waiting answers at which the gate opens by itself: a barrier.
        after: the number of deltas of a streamed answer sent before the gate; 0 waits before the first byte.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID_UNKNOWN

    name: str
    opens_at: int | None = None
    after: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One answer of the LLM.

    In `content`, `finish` and tool arguments, `$LAST` is replaced by the text of the last message received. In streamed text,
    `$NOW` is replaced by `time.monotonic_ns()` when it is sent.

    Attributes:
        tokens: shorthand for a content of so many words.
        finish: shorthand for a call of the agent's `finish` tool with this message.
        usage: the reported usage: explicit, estimated from the sizes, or omitted.
        status: a status other than 200 sends `error` and `code` in OpenAI's error form.
        hang: never answer.
        drop_after: cut the connection after so many deltas of a stream.
        ttft_ms: delay before the first byte.
        token_ms: delay before each further delta; an answer that is not streamed waits for all of them.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID_UNKNOWN

    content: str | None = None
    tokens: int | None = None
    reasoning: str = ""
    tool_calls: tuple[ScriptedCall, ...] = ()
    finish: str | None = None
    finish_reason: str | None = None
    usage: Usage | Literal["estimated", "omitted"] = "estimated"
    status: int = 200
    error: str = "The scripted LLM refuses."
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False
    drop_after: int | None = None
    gate: Gate | str | None = None
    ttft_ms: float | None = None
    token_ms: float | None = None

    @property
    def text(self) -> str | None:
        """The content, including that of `tokens`."""
        return self.content if self.tokens is None else " ".join(f"w{number}" for number in range(self.tokens))

    @property
    def calls(self) -> tuple[ScriptedCall, ...]:
        """The tool calls, including that of `finish`."""
        return self.tool_calls if self.finish is None else (*self.tool_calls, ScriptedCall("finish", {"message": self.finish}))

    @property
    def barrier(self) -> Gate | None:
        """The gate, or None; a gate given by its name becomes a `Gate`."""
        return Gate(self.gate) if isinstance(self.gate, str) else self.gate

    def fill_last(self, last: str) -> "Step":
        """Return the step with `$LAST` replaced by the last message's text."""
        return replace(
            self,
            content=_fill(self.content, last),
            finish=_fill(self.finish, last),
            tool_calls=tuple(ScriptedCall(call.name, _fill(call.arguments, last)) for call in self.tool_calls),
        )


@dataclass(frozen=True, slots=True)
class Script:
    """The answers to one request and to its further turns; the delays apply to steps without their own."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID_UNKNOWN

    steps: tuple[Step, ...]
    ttft_ms: float | None = None
    token_ms: float | None = None

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError("a script needs at least one step")

    def step(self, index: int) -> Step:
        """Return the step for a turn (from 0); the last one repeats."""
        step = self.steps[min(index, len(self.steps) - 1)]
        return replace(
            step,
            ttft_ms=self.ttft_ms if step.ttft_ms is None else step.ttft_ms,
            token_ms=self.token_ms if step.token_ms is None else step.token_ms,
        )


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One chat completion request as it was received.

    Attributes:
        number: counts the requests of a server, from 1.
        headers: names in lower case.
        received_ns: `time.monotonic_ns()` at its arrival, comparable between processes of one machine.
        size_bytes: of the body.
    """

    number: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    received_ns: int = 0
    size_bytes: int = 0

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]:
        return list(self.body.get("messages") or ())

    @property
    def model(self) -> str:
        return str(self.body.get("model", ""))

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream"))

    @property
    def include_usage(self) -> bool:
        return bool((self.body.get("stream_options") or {}).get("include_usage"))

    @property
    def tools(self) -> tuple[str, ...]:
        """Names of the tools that the caller offers."""
        return tuple(tool["function"]["name"] for tool in self.body.get("tools") or ())

    @property
    def system_text(self) -> str:
        """The system and developer messages."""
        return "\n".join(text_of(message) for message in self.messages if message.get("role") in ("system", "developer"))

    @property
    def last_text(self) -> str:
        """The text of the last message, whatever its role."""
        return text_of(self.messages[-1]) if self.messages else ""

    def turns_since(self, index: int) -> int:
        """Return the number of assistant messages with tool calls after the message at `index`."""
        return sum(
            1 for message in self.messages[index + 1 :] if message.get("role") == "assistant" and message.get("tool_calls")
        )


type Director = Callable[[ChatRequest], Step | None]
"""Chooses the answer to a request without a marker, by its content; None selects the default script."""


def marker(script: Script | Step | Mapping[str, object]) -> str:
    """Render a script as text that `choose_step` finds in a message. A step becomes a script of one step."""
    document = {"steps": [script]} if isinstance(script, Step) else script
    adapter: TypeAdapter[Any] = TypeAdapter(type(document))
    return f"{MARKER}{adapter.dump_json(document, exclude_defaults=True).decode()}]]"


def parse_script(document: object) -> Script:
    """Parse a script from decoded JSON: an object with `steps`, or one step.

    Raises:
        ScriptError: it is not valid.
    """
    wrapped = {"steps": [document]} if isinstance(document, dict) and "steps" not in document else document
    try:
        # Validated as JSON, because strict mode then accepts an array for a tuple.
        return _SCRIPTS.validate_json(json.dumps(wrapped))
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, item['loc'])) or 'script'}: {item['msg']}" for item in error.errors(include_url=False))
        raise ScriptError("; ".join(problems)) from None


_SCRIPTS: Final = TypeAdapter(Script)


def choose_step(request: ChatRequest, default: Script, direct: Director | None = None) -> Step:
    """Return the answer to a request: from the last marker in its user messages, else from `direct`, else from `default`.

    Raises:
        ScriptError: the marker is not valid.
    """
    users = [(index, text_of(message)) for index, message in enumerate(request.messages) if message.get("role") == "user"]
    for index, text in reversed(users):
        script = find_script(text)
        if script is not None:
            return script.step(request.turns_since(index)).fill_last(request.last_text)
    directed = direct(request) if direct is not None else None
    if directed is not None:
        return directed.fill_last(request.last_text)
    last_user = users[-1][0] if users else -1
    return default.step(request.turns_since(last_user)).fill_last(request.last_text)


@lru_cache(maxsize=512)
def find_script(text: str) -> Script | None:
    """Parse the last outermost marker of a text; None without one.

    Raises:
        ScriptError: it is not JSON, or not a script.
    """
    found, start = None, text.find(MARKER)
    while start >= 0:
        try:
            found, end = json.JSONDecoder().raw_decode(text, start + len(MARKER))
        except ValueError as error:
            raise ScriptError(f"the marker does not contain JSON: {error}") from None
        if not text[end:].lstrip().startswith("]]"):
            raise ScriptError(f"the marker does not end with ]] after its JSON, but with {text[end : end + 20]!r}")
        # From its end, not its start: a marker inside this one's JSON is for a delegated agent.
        start = text.find(MARKER, end)
    return None if found is None else parse_script(found)


def text_of(message: Mapping[str, Any]) -> str:
    """Return the text of a message, whether its content is a string or a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content or () if part.get("type") == "text")


def _fill[T](value: T, last: str) -> T:
    filled: object = value
    match value:
        case str() if "$LAST" in value:
            filled = value.replace("$LAST", last)
        case dict():
            filled = {key: _fill(item, last) for key, item in value.items()}
        case list():
            filled = [_fill(item, last) for item in value]
    return filled  # type: ignore[return-value]  # each case keeps its type
