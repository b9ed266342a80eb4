"""Write profiles for `profiles init`: a plain one, or one of the four that ship, with a comment above each field."""

import re
from collections.abc import Collection, Iterator
from importlib.resources import files
from typing import Final

import yaml

_PLAIN: Final = """\
---
name: plain
description: Answer in one sentence what this agent is for.
tools: [terminal, file_editor, task_tracker, delegate]
a2a:
  budget_usd: "1.00"
  max_turns: 50
  timeout_s: 600
---
You are an engineer. You do what the task asks, and report what you have done.

Replace this text by what the agent must know: how it works, what it must not do, and what it hands back.
"""

_COMMENTS: Final = {
    "name": "The agent is served as the model openhands_{name}.",
    "description": "Callers choose an agent by this text, and so do agents that delegate.",
    "tools": "Any of terminal, file_editor, grep, glob, task_tracker, delegate; [] is an agent without tools.",
    "a2a": "The gateway's own settings. A limit that is not set is the server's.",
    "budget_usd": "What one run may cost in USD, with all that it delegates.",
    "max_depth": "How deep delegations may go: 0 is a run that a client starts, and must not delegate.",
    "max_breadth": "How many agents one run may have at work at once.",
    "max_runs": "How many runs one run may start in all, at every depth.",
    "max_turns": "How many LLM calls one run may make.",
    "timeout_s": "How long one run may take, in seconds.",
    "allowed_agents": "The agents that it may call; self is a copy of itself. Without this line, all of them.",
}
_FURTHER: Final = """\
# The LLM: the name of an entry of [[llms]] in gateway.toml, or LiteLLM's id of a model; inherit is the default one.
# model: inherit
# Tools of MCP servers. ${NAME} is a variable of the gateway's environment; credentials have names that begin with MCP_.
# mcp_servers:
#   wiki: {url: "https://wiki.example.org/mcp", headers: {Authorization: "Bearer ${MCP_WIKI_TOKEN}"}}
"""
_FURTHER_IN_BLOCK: Final = """\
  # Where its tools work: inherit is the caller's directory, isolated one of its own; or the path of a directory.
  # workspace: inherit
  # What all its runs together may cost on one day (UTC), in USD.
  # budget_per_day_usd: "10.00"
  # The text below the line of --- is added to OpenHands' system prompt; replace makes it the whole prompt.
  # prompt: append
"""
_FIELD: Final = re.compile(r"(?P<indent> *)(?P<name>\w+):")


def render_profile(name: str, template: str | None, agents: Collection[str]) -> str:
    """Render a profile with comments.

    Args:
        template: the name of one that ships; None for a plain profile.
        agents: the names of the profiles beside it: it is not limited to agents of which one does not exist.
    """
    text = _PLAIN if template is None else (files("a2a_gateway") / "demo_profiles" / f"{template}.md").read_text("utf-8")
    _, header, body = text.split("---\n", 2)
    return f"---\n{''.join(_comment(header, name, {*agents, name, 'self'}))}---\n{body}"


def _comment(header: str, name: str, agents: Collection[str]) -> Iterator[str]:
    for line in header.splitlines(keepends=True):
        found = _FIELD.match(line)
        if found is None:  # a further line of the description
            yield line
            continue
        field, indent = found["name"], found["indent"]
        if field == "a2a":
            yield _FURTHER
        if field in _COMMENTS:
            yield f"{indent}# {_COMMENTS[field].format(name=name)}\n"
        if field == "name":
            yield f"name: {_quote(name)}\n"
        elif field == "allowed_agents" and not set(yaml.safe_load(line)[field]) <= set(agents):
            yield f"{indent}# {line.strip()}  # not all of these exist here\n"
        else:
            yield line
    yield _FURTHER_IN_BLOCK


def _quote(name: str) -> str:
    """Quote a name that YAML would read as a number, a date or a truth value."""
    return name if yaml.safe_load(name) == name else f'"{name}"'
