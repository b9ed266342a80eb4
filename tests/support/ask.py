"""Short ways to ask a gateway something, and to say what its scripted LLM shall answer."""

import re
from collections.abc import Mapping
from typing import Any

from openai import APIError
from openai.types.chat import ChatCompletionChunk

from a2a_gateway.testing.script import ChatRequest, Script, ScriptedCall, Step, Usage, marker, text_of


def user(text: str, *steps: Step, **script: Any) -> Any:
    """A user message; the steps are what the LLM answers to it, turn by turn."""
    return {"role": "user", "content": f"{text} {marker(Script(steps, **script))}" if steps else text}


def call(name: str, **arguments: Any) -> ScriptedCall:
    return ScriptedCall(name, arguments)


def delegation(agent: str, task: str, *steps: Step, **arguments: Any) -> ScriptedCall:
    """A call of the delegation tool whose child is answered by `steps`."""
    return call("delegate", agent=agent, task=str(user(task, *steps)["content"]), **arguments)


def direct(request: ChatRequest) -> Step | None:
    """Answer `burn …` with all the tokens that are allowed, `hop A B` by delegating `hop B` to A, and the rest as `nest`."""
    task = next((text_of(message) for message in reversed(request.messages) if message.get("role") == "user"), "")
    if task.startswith("burn "):
        return Step(content="burnt", usage=Usage(1_000, int(request.body["max_completion_tokens"])))
    if task.startswith("hop"):
        return _hop(request, task.split()[1:])
    return nest(request)


def _hop(request: ChatRequest, agents: list[str]) -> Step:
    cent = Usage(10_000, 0)
    if request.messages[-1].get("role") == "tool":
        return Step(content="told: $LAST", usage=cent)
    if not agents:
        return Step(content="end of the line", usage=cent)
    return Step(tool_calls=(call("delegate", agent=agents[0], task=" ".join(["hop", *agents[1:]])),), usage=cent)


def nest(request: ChatRequest) -> Step | None:
    """Answer `nest N` by delegating `nest N-1` to oneself, down to 0: a script in a message doubles in size at each level."""
    task = next((text_of(message) for message in reversed(request.messages) if message.get("role") == "user"), "")
    found = re.fullmatch(r"nest (\d+)", task.strip())
    if found is None:
        return None
    level = int(found[1])
    if level == 0 or request.messages[-1].get("role") == "tool":
        return Step(content=f"back at {level}")
    return Step(tool_calls=(call("delegate", agent="self", task=f"nest {level - 1}"),))


def content_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def partial_of(error: APIError) -> str:
    """What had been written when a run failed."""
    body: Any = error.body
    return str(body["details"]["partial"])


def a2a_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of the delegation protocol, names in lower case."""
    return {name.lower(): value for name, value in headers.items() if name.lower().startswith("x-a2a-")}
