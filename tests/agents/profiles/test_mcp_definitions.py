"""The MCP servers of a definition: what their variables stand for, and what is wrong with them."""

import re

import pytest

from a2a_gateway.runs.model import ProfileProblem
from tests.agents.profiles.place import Place
from tests.support.pages import ROOT, section_of

_SERVER = """
    ---
    name: p
    mcp_servers:
      tickets:
        command: sh
        env:
          MODE: production
          TOKEN: %s
    ---
    """


def test_a_server_gets_the_values_of_variables_and_credentials_are_known_as_such(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TICKETS_HOST", "tickets.test")
    place.write(
        "p.md",
        """
        ---
        name: p
        mcp_config:
          tickets:
            command: sh
            args: ["--host", "${TICKETS_HOST}", "--port", "${TICKETS_PORT:-443}"]
            env: {TOKEN: "${MCP_TICKETS_API_KEY}", USER: "${MCP_TICKETS_USER}", MODE: production}
          wiki: {url: "https://wiki.test/mcp", headers: {Authorization: "Bearer wiki-credential"}}
          unused: {command: sh, enabled: false}
        ---
        """,
    )
    catalog = place.open({"MCP_TICKETS_API_KEY": "tickets-credential", "MCP_TICKETS_USER": "user-credential"})
    recipe = catalog.recipe("p")
    assert catalog.problems() == ()
    assert recipe.profile.mcp_servers == ("tickets", "wiki")
    tickets = recipe.mcp_config["tickets"]
    assert tickets.args == ["--host", "tickets.test", "--port", "443"]
    assert {name: value.get_secret_value() for name, value in (tickets.env or {}).items()} == {
        "TOKEN": "tickets-credential",
        "USER": "user-credential",
        "MODE": "production",
    }
    secrets = {secret.get_secret_value() for secret in recipe.mcp_secrets}
    assert secrets == {"tickets-credential", "user-credential", "wiki-credential", "Bearer wiki-credential"}
    assert "credential" not in catalog.mask(" ".join(sorted(secrets)))  # as in the task that a run's journal keeps
    assert "credential" not in repr(recipe)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("${NOT_SET}", "the variable NOT_SET is not set in the gateway's environment"),
        (
            "${LLM_API_KEY}",
            "the variable LLM_API_KEY is the gateway's own, and is not given to an MCP server: set one whose name begins with "
            "MCP_, and name that",
        ),
        (
            "${A2A_DATABASE_URL:-none}",
            "the variable A2A_DATABASE_URL is the gateway's own, and is not given to an MCP server: set one whose name begins "
            "with MCP_, and name that",
        ),
    ],
)
def test_a_variable_that_a_server_cannot_have_breaks_the_profile(place: Place, value: str, message: str) -> None:
    path = place.write("p.md", _SERVER % value)
    assert place.open().problems() == (ProfileProblem(str(path), message, 8),)


@pytest.mark.parametrize("name", ["a", "z"])
def test_no_server_gets_the_key_of_an_llm_in_whatever_order_profiles_are_read(
    place: Place, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("CORPORATE", "corporate-secret")
    place.write("m.md", "---\nname: m\nmodel: openai/x\na2a: {api_key_env: CORPORATE, base_url: 'https://llm.test/v1'}\n---\n")
    path = place.write(f"{name}.md", _SERVER % "${CORPORATE}")
    problems = {problem.path: problem.message for problem in place.open({"CORPORATE": "corporate-secret"}).problems()}
    assert problems[str(path)].startswith("the variable CORPORATE is the gateway's own")


def test_the_credentials_of_servers_are_masked_in_what_is_kept_of_tasks(place: Place) -> None:
    place.write("p.md", _SERVER % "tickets-credential")
    assert place.open().mask("Use tickets-credential.") == "Use <secret-hidden>."


def test_a_server_that_needs_a_person_at_a_browser_breaks_the_profile(place: Place) -> None:
    path = place.write("p.md", "---\nname: p\nmcp_servers:\n  x: {url: 'https://x.test', auth: {strategy: oauth2}}\n---\n")
    [problem] = place.open().problems()
    assert (problem.path, problem.line, problem.is_warning) == (str(path), 4, False)
    assert "oauth2" in problem.message


def test_the_name_of_the_field_in_other_programs_breaks_the_profile(place: Place) -> None:
    path = place.write("p.md", "---\nname: p\nmcpServers: {x: {command: sh}}\n---\n")
    assert place.open().problems() == (ProfileProblem(str(path), "the field is named mcp_servers", 3),)


def test_fields_and_programs_of_servers_that_do_not_exist_are_warnings(place: Place) -> None:
    path = place.write("p.md", "---\nname: p\nmcp_servers:\n  x:\n    command: no-such-program\n    environ: {A: b}\n---\n")
    problems = place.open().problems()
    assert {(problem.path, problem.line, problem.is_warning) for problem in problems} == {
        (str(path), 5, True),
        (str(path), 6, True),
    }
    assert place.open().get("p").mcp_servers == ("x",)


def test_the_servers_of_the_documentation_are_as_it_says(place: Place) -> None:
    [example] = re.findall(
        r"```markdown\n(.*?)```", section_of((ROOT / "docs/profiles.md").read_text(), "MCP servers"), re.DOTALL
    )
    place.write("librarian.md", example.replace("uvx", "sh"))
    catalog = place.open({"MCP_TICKETS_TOKEN": "tickets-credential", "MCP_WIKI_TOKEN": "wiki-credential"})
    assert catalog.problems() == ()
    assert catalog.get("librarian").mcp_servers == ("tickets", "wiki")
