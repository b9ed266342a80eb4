"""Short ways to send a gateway requests and to script the answers of its LLM."""

import re
from collections.abc import Mapping
from typing import Any

from openai import APIError
from openai.types.chat import ChatCompletionChunk

from a2a_gateway.testing.script import ChatRequest, Script, ScriptedCall, Step, Usage, marker, text_of


def user(text: str, *steps: Step, **script: Any) -> Any:
    """Return a user message; the steps are what the LLM answers to it, turn by turn."""
    return {"role": "user", "content": f"{text} {marker(Script(steps, **script))}" if steps else text}


def call(name: str, **arguments: Any) -> ScriptedCall:
    return ScriptedCall(name, arguments)


def delegation(agent: str, task: str, *steps: Step, **arguments: Any) -> ScriptedCall:
    """Return a call of the delegation tool; the LLM answers the child with `steps`."""
    return call("delegate", agent=agent, task=str(user(task, *steps)["content"]), **arguments)


def direct(request: ChatRequest) -> Step | None:
    """Answer by the first word of the task.

    `burn …` uses all the tokens that are allowed; `hop A B` delegates `hop B` to A; for other tasks see `nest`.
    """
    task = next((text_of(message) for message in reversed(request.messages) if message.get("role") == "user"), "")
    if task.startswith("burn "):
        return Step(content="burnt", usage=Usage(1_000, int(request.body["max_completion_tokens"])))
    if task.startswith("hop"):
        return _hop(request, task.split()[1:])
    return nest(request)


def _hop(request: ChatRequest, agents: list[str]) -> Step:
    cent = Usage(10_000, 0)
    if request.messages[-1].get("role") == "tool":
        return Step(content="answered: $LAST", usage=cent)
    if not agents:
        return Step(content="end of the line", usage=cent)
    return Step(tool_calls=(call("delegate", agent=agents[0], task=" ".join(["hop", *agents[1:]])),), usage=cent)


def nest(request: ChatRequest) -> Step | None:
    """Answer `nest N` by delegating `nest N-1` to `self`, down to 0.

    A script in the message would double in size at each level.
    """
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
    """Return the text that a run had written when it failed."""
    body: Any = error.body
    return str(body["details"]["partial"])


def a2a_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of the delegation protocol, with names in lower case."""
    return {name.lower(): value for name, value in headers.items() if name.lower().startswith("x-a2a-")}
