"""Starts an SDK agent in a directory full of bait, twice, and prints which of it was taken. Run by `test_ambient.py`.

Usage: `python ambient_probe.py HOME WORKSPACE`; prints one line of JSON with the bait taken with the doors `open`, and `closed`.
The SDK looks up the home directory while it is imported, hence a process of its own; its registries outlive an agent, hence a
fork for each of the two, which shares the seconds of the import.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

HOOK = {"hooks": {"SessionStart": [{"hooks": [{"type": "command", "command": "touch {ran}"}]}]}}


def plant(where: Path, tier: str, ran: Path) -> None:
    """Put bait into a workspace or a home; each has a word of its own."""
    for folder in (".openhands", ".agents"):
        word = f"{tier}-{folder[1:]}"
        plugin = where / folder / "plugins" / word
        write(plugin / ".plugin" / "plugin.json", json.dumps({"name": word, "version": "1.0.0", "description": word}))
        write(plugin / "hooks" / "hooks.json", json.dumps(HOOK).replace("{ran}", str(ran / f"{word}-plugin-hook")))
        write(plugin / "skills" / word / "SKILL.md", f"---\nname: {word}-p\ndescription: BAIT-{word}-plugin-skill\n---\nx")
        write(plugin / "agents" / "agent.md", f"---\nname: BAIT-{word}-plugin-agent\ndescription: x\n---\nx")
        write(where / folder / "agents" / "agent.md", f"---\nname: BAIT-{word}-agent\ndescription: x\n---\nx")
        write(where / folder / "skills" / word / "SKILL.md", f"---\nname: {word}\ndescription: BAIT-{word}-skill\n---\nx")
    write(where / "AGENTS.md", f"BAIT-{tier}-instructions")
    write(where / ".openhands" / "hooks.json", json.dumps(HOOK).replace("{ran}", str(ran / f"{tier}-hook")))
    write(where / ".openhands" / "memory" / "MEMORY.md", f"BAIT-{tier}-memory")
    write(where / ".openhands" / "SOUL.md", f"BAIT-{tier}-identity")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def taken(workspace: Path, ran: Path) -> list[str]:
    """Run an agent whose context asks for everything, and return the bait that it met, ran or left in the process."""
    import re

    from openhands.sdk import Agent, AgentContext, LocalConversation, Message, TextContent
    from openhands.sdk.event import SystemPromptEvent
    from openhands.sdk.subagent.registry import get_registered_agent_definitions
    from openhands.sdk.testing import TestLLM

    context = AgentContext(load_user_skills=True, load_project_skills=True, load_memory=True)
    llm = TestLLM.from_messages([Message(role="assistant", content=[TextContent(text="done")])])
    agent = Agent(llm=llm, agent_context=context)
    conversation: Any = LocalConversation(agent=agent, workspace=str(workspace), visualizer=None)
    conversation.send_message("go")
    conversation.run()
    prompts = [event.model_dump_json() for event in conversation.state.events if isinstance(event, SystemPromptEvent)]
    conversation.close()
    found = set(re.findall(r"BAIT-([a-z-]+)", " ".join([*prompts, *(d.name for d in get_registered_agent_definitions())])))
    return sorted(found | {path.name for path in ran.iterdir()})


def main(home: Path, workspace: Path) -> None:
    os.environ["HOME"] = str(home)
    import openhands.sdk  # noqa: F401  # before the fork

    for doors in ("open", "closed"):
        child = os.fork()
        if child == 0:
            probe(home, workspace, doors)
            sys.stdout.flush()
            os._exit(0)
        if os.waitpid(child, 0)[1] != 0:
            sys.exit(f"the probe with its doors {doors} failed")


def probe(home: Path, workspace: Path, doors: str) -> None:
    ran = home.parent / f"ran-{doors}"
    ran.mkdir()
    plant(home, "home", ran)
    plant(workspace, "workspace", ran)
    if doors == "closed":
        from a2a_gateway.agents.sdk_patches.ambient_sources import AMBIENT_SOURCES
        from a2a_gateway.agents.sdk_patches.patching import require

        with require(AMBIENT_SOURCES):
            bait = taken(workspace, ran)
    else:
        bait = taken(workspace, ran)
    sys.stdout.write("\n" + json.dumps({doors: bait}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
