"""Several LLMs with servers and keys of their own behind one gateway: agents on them delegate to each other."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from a2a_gateway.llm_settings import LLMSettings
from a2a_gateway.testing.script import Step, Usage
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.agents.llm.provider_bytes import OLLAMA
from tests.support.ask import call, delegation, user
from tests.support.gateway import GatewayUnderTest, gateway_in_thread
from tests.support.raw_llm import RawLLM

KEYS = {
    "FIRST_LLM": "sk-first-0123456789",
    "OWN_LLM": "sk-own-0123456789",
    "OPENAI_API_KEY": "sk-openai-0123456789",
}
"""By variables of which two do not look like variables of keys."""


@dataclass
class Servers:
    """LLM servers by the name of the profile or entry that uses them, and a server that imitates Ollama."""

    gateway: GatewayUnderTest
    llms: dict[str, ScriptedLLM]
    ollama: RawLLM

    def keys_received_by(self, name: str) -> set[str]:
        """Return the keys in the requests that a server has received."""
        return {request.headers["authorization"] for request in self.llms[name].traffic.requests}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A gateway on four scripted LLMs and one Ollama; only `second` has prices."""
    directory = tmp_path_factory.mktemp("llms")
    ollama = RawLLM([OLLAMA.stream(*OLLAMA.saying("From Ollama."))])
    with (
        ScriptedLLM.in_thread() as first,
        ScriptedLLM.in_thread() as second,
        ScriptedLLM.in_thread() as third,
        ScriptedLLM.in_thread() as own,
        ollama.in_thread() as ollama_url,
        pytest.MonkeyPatch.context() as patched,
    ):
        for name, key in KEYS.items():
            patched.setenv(name, key)
        (directory / "second.key").write_text("sk-second-0123456789\n")
        entries: list[dict[str, Any]] = [
            {"name": "first", "model": "openai/first", "base_url": first.base_url, "api_key_env": "FIRST_LLM"},
            {
                "name": "second",
                "model": "openai/second",
                "base_url": second.base_url,
                "api_key_file": str(directory / "second.key"),
                "input_usd_per_mtok": 1,
                "output_usd_per_mtok": 2,
                "parameters": {"temperature": 0.25, "keep_alive": "5m", "extra_headers": {"x-team": "ours"}},
            },
            {"name": "third", "model": "openai/third", "base_url": third.base_url},
            {"name": "ollama", "model": "ollama/llama3.1", "base_url": ollama_url, "context_length": 32_768},
        ]
        profiles = directory / "profiles"
        profiles.mkdir()
        (profiles / "lead.md").write_text("---\nname: lead\nmodel: first\ntools: [delegate, terminal]\n---\nYou lead.\n")
        (profiles / "own.md").write_text(
            f"---\nname: own\nmodel: second\ntools: []\na2a:\n  base_url: {own.base_url}\n  api_key_env: OWN_LLM\n---\nHelp.\n"
        )
        environ = {**KEYS, "OH_PERSISTENCE_DIR": str(directory / "openhands"), "PATH": os.environ["PATH"]}
        llms = tuple(LLMSettings.model_validate(entry) for entry in entries)
        settings: dict[str, Any] = {"profiles": (profiles,), "unpriced_usd_per_mtok": None, "shell_pool_size": 1}
        with gateway_in_thread(directory / "data", environ, llms=llms, **settings) as gateway:
            yield Servers(gateway, {"first": first, "second": second, "third": third, "own": own}, ollama)


def test_each_server_receives_its_own_key_and_no_other(servers: Servers) -> None:
    children = ("second", "third", "own")
    calls = tuple(
        delegation(f"openhands_{name}", f"Help, {name}.", Step(content=name, usage=Usage(1_000, 0))) for name in children
    )
    message = user("Lead.", Step(tool_calls=calls), Step(content="done"))
    with servers.gateway.sync_client() as client:
        completion = client.chat.completions.create(model="openhands_lead", messages=[message])
    assert completion.choices[0].message.content == "done"
    assert {name: servers.keys_received_by(name) for name in servers.llms} == {
        "first": {f"Bearer {KEYS['FIRST_LLM']}"},
        "second": {"Bearer sk-second-0123456789"},
        "third": {"Bearer no-key"},
        "own": {f"Bearer {KEYS['OWN_LLM']}"},
    }
    assert completion.usage is not None
    details = completion.usage.model_dump()["cost_details"]
    # `own` inherits the prices of `second`, but neither its key nor its header.
    assert (details["complete"], details["self"], details["descendants"]) == (True, "0.000000", "0.002000")


def test_parameters_are_sent_with_each_request_to_their_server_only(servers: Servers) -> None:
    with servers.gateway.sync_client() as client:
        for name in ("second", "own"):
            client.chat.completions.create(model=f"openhands_{name}", messages=[user("Hi.", Step(content="hi"))])
    [second], [own] = ([llm.traffic.requests[-1]] for llm in (servers.llms["second"], servers.llms["own"]))
    assert (second.body["temperature"], second.body["keep_alive"], second.headers["x-team"]) == (0.25, "5m", "ours")
    assert (own.body["model"], own.body.keys() & {"temperature", "keep_alive"}, "x-team" in own.headers) == (
        "second",
        set(),
        False,
    )


def test_models_state_where_their_price_comes_from(servers: Servers) -> None:
    with servers.gateway.sync_client() as client:
        sources = {model.id: model.model_dump()["price_source"] for model in client.models.list()}
    assert sources == {
        "openhands_default": "local",
        "openhands_first": "local",
        "openhands_lead": "local",
        "openhands_ollama": "local",
        "openhands_own": "configured",
        "openhands_second": "configured",
        "openhands_third": "local",
    }


def test_no_variable_of_a_key_is_left_for_agents(servers: Servers) -> None:
    command = " ".join(f"printenv {name} >&2 || echo no {name};" for name in KEYS)
    steps = Step(tool_calls=(call("terminal", command=command),)), Step(content="$LAST")
    with servers.gateway.sync_client() as client:
        completion = client.chat.completions.create(model="openhands_lead", messages=[user("Look.", *steps)])
    answer = completion.choices[0].message.content or ""
    assert all(f"no {name}" in answer for name in KEYS)
    assert not os.environ.keys() & {"FIRST_LLM", "OWN_LLM"}


def test_ollama_gets_tools_and_context_and_is_asked_nothing_else(servers: Servers) -> None:
    with servers.gateway.sync_client() as client:
        completion = client.chat.completions.create(model="openhands_ollama", messages=[user("Hi.")])
    assert completion.choices[0].message.content == "From Ollama."
    [request] = servers.ollama.requests
    assert (request.path, request.body["options"]["num_ctx"], "think" in request.body) == ("/api/chat", 32_768, False)
    assert "terminal" in {tool["function"]["name"] for tool in request.body["tools"]}
    assert completion.usage is not None
    assert (completion.usage.model_dump()["cost"], completion.usage.model_dump()["cost_details"]["complete"]) == (0, True)
    assert servers.ollama.model_questions == 0
