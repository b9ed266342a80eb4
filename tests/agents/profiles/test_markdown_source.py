"""Markdown agent definitions: what becomes of them, and what is said about those that cannot be used."""

from dataclasses import replace

import pytest

from a2a_gateway.agents.recipe import ToolSpec
from a2a_gateway.errors import ModelNotFound
from a2a_gateway.runs.model import Profile, ProfileProblem, WorkspacePolicy
from delegate_tool.protocol.context import Narration
from delegate_tool.protocol.limits import LimitPolicy
from tests.agents.profiles.place import Place

FULL = """
    ---
    name: reviewer
    description: Reviews code. <example>look at my change</example>
    tools: [terminal, FileEditorTool, finish, delegate]
    max_iteration_per_run: 20
    max_budget_per_run: 0.75
    a2a:
      budget_usd: 0.50
      max_depth: 2
      max_breadth: 3
      max_runs: 4
      max_turns: 30
      timeout_s: 90
      allowed_agents: [coder, openhands_researcher, peer/openhands_x, self]
      workspace: isolated
      narration: reasoning
      context_length: 32000
      max_output_tokens: 4000
      input_usd_per_mtok: 2.5
      output_usd_per_mtok: 10
      vision: false
    ---
    You review.
"""


def test_a_definition_becomes_a_profile_with_everything_that_it_says(place: Place) -> None:
    path = place.write("any-name.md", FULL)

    assert place.open().get("reviewer") == Profile(
        name="reviewer",
        description="Reviews code.",
        source=str(path),
        llm_model="openai/gpt-4o",
        context_tokens=32_000,
        max_output_tokens=4_000,
        vision=False,
        tools=("terminal", "file_editor", "delegate"),
        may_delegate=True,
        policy=LimitPolicy(
            max_depth=2,
            max_breadth=3,
            max_runs=4,
            timeout_s=90.0,
            max_turns=20,
            budget_micro_usd=500_000,
            allowed_agents=frozenset({"openhands_coder", "openhands_researcher", "peer/openhands_x", "openhands_reviewer"}),
        ),
        workspace=WorkspacePolicy.ISOLATED,
        narration=Narration.REASONING,
        price_source="configured",
    )


def test_prices_and_sizes_reach_the_llm_that_will_be_called(place: Place) -> None:
    place.write("reviewer.md", FULL)

    recipe = place.open().recipe("reviewer")

    assert (recipe.input_usd_per_token, recipe.output_usd_per_token) == (2.5e-6, 10e-6)
    assert (recipe.llm.input_cost_per_token, recipe.llm.output_cost_per_token) == (2.5e-6, 10e-6)
    assert (recipe.llm.effective_max_input_tokens, recipe.llm.effective_max_output_tokens) == (32_000, 4_000)
    assert recipe.llm.vision_is_active() is False


def test_the_body_is_appended_to_openhands_own_prompt_unless_it_asks_to_replace_it(place: Place) -> None:
    place.write("one.md", "---\nname: one\n---\nBe brief.\n")
    place.write("two.md", "---\nname: two\na2a: {prompt: replace}\n---\nBe brief.\n")
    catalog = place.open()

    one, two = catalog.recipe("one"), catalog.recipe("two")

    assert (one.system_prompt, one.system_suffix) == (None, "Be brief.")
    assert (two.system_prompt, two.system_suffix) == ("Be brief.", None)


@pytest.mark.parametrize(
    ("line", "tools"),
    [
        ("color: blue", ("terminal", "file_editor", "task_tracker", "delegate")),
        ("tools:", ("terminal", "file_editor", "task_tracker", "delegate")),
        ("tools: []", ()),
        ("tools: grep", ("grep",)),
        (
            "tools: [BashTool, execute_bash, terminal, GlobTool, TaskTrackerTool, task_tool_set]",
            ("terminal", "glob", "task_tracker", "delegate"),
        ),
    ],
)
def test_a_profile_has_the_tools_it_names_or_the_default_ones(place: Place, line: str, tools: tuple[str, ...]) -> None:
    place.write("p.md", f"---\nname: p\n{line}\n---\n")

    recipe = place.open().recipe("p")

    assert recipe.tools == tuple(ToolSpec(name) for name in tools)
    assert (recipe.profile.tools, recipe.profile.may_delegate) == (tools, "delegate" in tools)


@pytest.mark.parametrize(
    ("workspace", "path"), [("/srv/repo", "/srv/repo"), ("../repo", "{root}/repo"), ("work", "{root}/profiles/work")]
)
def test_a_fixed_workspace_is_found_from_where_the_definition_stands(place: Place, workspace: str, path: str) -> None:
    place.write("p.md", f"---\nname: p\na2a:\n  workspace: {workspace}\n---\n")

    profile = place.open().get("p")

    assert (profile.workspace, profile.workspace_path) == (WorkspacePolicy.FIXED, path.format(root=place.root))


def test_vision_can_be_claimed_for_a_model_that_litellm_does_not_know(place: Place) -> None:
    place.write("p.md", "---\nname: p\nmodel: openai/our-own\na2a: {vision: true}\n---\n")
    place.write("q.md", "---\nname: q\nmodel: openai/our-own\n---\n")
    catalog = place.open()

    assert (catalog.get("p").vision, catalog.get("q").vision) == (True, False)
    assert catalog.recipe("p").llm.vision_is_active()


@pytest.mark.parametrize(("condenser", "size"), [("default", 240), ("none", None)])
def test_a_definition_can_do_without_the_condenser(place: Place, condenser: str, size: int | None) -> None:
    place.write("p.md", f"---\nname: p\ncondenser: {condenser}\n---\n")

    recipe = place.open().recipe("p")

    assert (None if recipe.condenser_llm is None else recipe.condenser_max_size) == size


def test_mcp_servers_of_a_definition_reach_the_recipe(place: Place) -> None:
    place.write("p.md", "---\nname: p\nmcp_config:\n  fetch: {command: uvx, args: [mcp-server-fetch]}\n---\n")

    assert list(place.open().recipe("p").mcp_config) == ["fetch"]


BROKEN = {
    "unknown setting": (
        "name: p\na2a:\n  max_depth: 2\n  max_dept: 3",
        5,
        "a2a.max_dept: there is no such setting (did you mean max_depth?)",
    ),
    "wrong type": ("name: p\na2a:\n  max_turns: ten", 4, "a2a.max_turns: Input should be a valid integer"),
    "boolean for a number": ("name: p\na2a:\n  max_runs: true", 4, "a2a.max_runs: Input should be a valid integer"),
    "too small": ("name: p\na2a:\n  timeout_s: 0", 4, "a2a.timeout_s: Input should be greater than 0"),
    "no money": ("name: p\na2a:\n  budget_usd: 5 EUR", 4, "a2a.budget_usd: not a decimal amount of USD such as 0.50: '5 EUR'"),
    "negative money": ("name: p\na2a:\n  budget_usd: -1", 4, "a2a.budget_usd: not a decimal amount of USD such as 0.50: '-1'"),
    "unknown narration": ("name: p\na2a:\n  narration: loud", 4, "a2a.narration: Input should be 'live', 'reasoning' or 'none'"),
    "a price beyond all": (
        "name: p\na2a:\n  input_usd_per_mtok: 1.0e+300\n  output_usd_per_mtok: 1",
        4,
        "a2a.input_usd_per_mtok: Input should be less than or equal to 1000000000",
    ),
    "one price": (
        "name: p\na2a:\n  input_usd_per_mtok: 1",
        3,
        "a2a: input_usd_per_mtok and output_usd_per_mtok must be set together",
    ),
    "a dearer cache": (
        "name: p\na2a:\n  input_usd_per_mtok: 1\n  output_usd_per_mtok: 1\n  cached_input_usd_per_mtok: 2",
        3,
        "a2a: cached_input_usd_per_mtok needs input_usd_per_mtok, and must not be higher",
    ),
    "no mapping": ("name: p\na2a: 5", 3, "a2a: Input should be a valid dictionary or instance of GatewayBlock"),
    "setting outside of the block": ("name: p\nbudget_usd: 1", 3, "budget_usd belongs in the block a2a:"),
    "unknown tool": (
        "name: p\ntools:\n  - terminal\n  - browser",
        5,
        "unknown tool 'browser'; known are terminal, file_editor, grep, glob, task_tracker, delegate",
    ),
    "tools of a wrong type": (
        "name: p\ntools: {terminal: true}",
        3,
        "tools must be a list of names, such as [terminal, delegate]",
    ),
    "skills": (
        "name: p\nskills: [deploy]",
        3,
        "skills are not loaded: they may run programs outside of the agent's tools; write their text into the body",
    ),
    "hooks": ("name: p\nhooks: {PreToolUse: []}", 3, "hooks are not run: they are programs outside of the agent's tools"),
    "confirmation": (
        "name: p\npermission_mode: always_confirm",
        3,
        "permission_mode can only be never_confirm: a gateway has no user who could confirm",
    ),
    "endless money": (
        "name: p\nmax_budget_per_run: .inf",
        3,
        "max_budget_per_run: not an amount of USD from 0 to 1000000000",
    ),
    "more money than numbers can say": (f"name: p\nmax_budget_per_run: {'9' * 400}", None, "cannot be parsed: OverflowError"),
    "the home of nobody": (
        "name: p\na2a:\n  workspace: ~nobody-of-that-name/x",
        4,
        "workspace is not a valid path of a directory",
    ),
    "a path with NUL": ('name: p\na2a:\n  workspace: "a\\0b"', 4, "workspace is not a valid path of a directory"),
    "half of a surrogate pair": ('name: p\ncolor: "\\ud83d"', 3, "is not YAML: found invalid Unicode character escape code"),
    "no turns": ("name: p\nmax_iteration_per_run: 0", 3, "max_iteration_per_run: Input should be greater than 0"),
    "broken YAML": (
        "name: p\ntools: [terminal",
        4,
        "is not YAML: expected ',' or ']', but got '<stream end>': a bracket or a quotation mark is not closed",
    ),
    "impossible date": ("name: p\ncolor: 2024-99-99", None, "month must be in 1..12"),
    "half a turn": ("name: p\nmax_iteration_per_run: 2.5", 3, "max_iteration_per_run must be a whole number"),
    "money in a list": ("name: p\nmax_budget_per_run: [1]", 3, "max_budget_per_run must be a number"),
    "a name that YAML takes for no": ("name: no", 2, "name must be text: put it in quotation marks"),
    "too few turns in words": ("name: p\nmax_iteration_per_run: few", None, "invalid literal for int() with base 10: 'few'"),
    "reserved name": ("name: self", 2, "the name 'self' is reserved: in a delegation it means the caller's own profile"),
    "impossible name": (
        "name: ../../etc/passwd",
        2,
        "the name must be 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit",
    ),
}


@pytest.mark.parametrize(("front", "line", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_an_unusable_definition_is_reported_with_its_line(place: Place, front: str, line: int | None, message: str) -> None:
    path = place.write("p.md", f"---\n{front}\n---\nBody.\n")

    assert place.open().problems() == (ProfileProblem(str(path), message, line),)


PLAIN = """\
---
name: p
description: Does
  it.
tools:
  - terminal
  - delegate
a2a:
  max_depth: 2
  allowed_agents:
    - self
---
You work.
\tAn indented line.
"""


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + PLAIN.encode(),
        PLAIN.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.replace("\n", "\r").encode(),
        PLAIN.replace("    ", "\t\t").replace("  ", "\t").encode(),
        PLAIN.replace("name: p", "name:\tp").replace("- ", "-\t").replace("max_depth: ", "max_depth:\t ").encode(),
        PLAIN.replace("---\n", "---\t\n").replace("a2a:", "a2a: \t").encode(),
    ],
    ids=["BOM", "CRLF", "BOM and CRLF", "CR", "tabs", "tabs between", "tabs at the end"],
)
def test_a_definition_may_be_written_with_any_editor(place: Place, data: bytes) -> None:
    path = place.write("p.md", PLAIN)
    expected = place.open().recipe("p")
    path.write_bytes(data)
    catalog = place.open()
    assert catalog.problems() == ()
    assert replace(catalog.recipe("p"), llm=expected.llm, condenser_llm=expected.condenser_llm) == expected
    assert expected.system_suffix == "You work.\n\tAn indented line."


def test_a_tab_within_a_value_is_kept(place: Place) -> None:
    place.write("p.md", "---\nname: p\na2a:\n\tmax_depth: 2\ndescription: 'a:\tb'\nmcp_config: {x: {command: \"y\tz\"}}\n---\n")
    assert place.open().recipe("p").mcp_config["x"].command == "y\tz"


def test_an_empty_field_is_an_absent_one(place: Place) -> None:
    place.write("p.md", "---\nname: null\ndescription:\nmodel: ~\ntools:\nmax_iteration_per_run:\na2a:\n---\n")
    place.write("q.md", "---\ncolor: blue\n---\n")
    catalog = place.open()
    assert catalog.problems() == ()
    empty, absent = catalog.get("p"), catalog.get("q")
    assert replace(empty, name="q", source=absent.source) == absent


def test_fields_without_a_meaning_are_warned_about_by_name_and_the_profile_is_served(place: Place) -> None:
    path = place.write("p.md", "---\nname: p\ntemperature: 0.2\nmcp_server: {x: {command: y}}\n---\n")
    catalog = place.open()
    assert catalog.get("p").name == "p"
    without = "is not a field of an agent definition, and has no effect"
    assert {*catalog.problems()} == {
        ProfileProblem(str(path), f"temperature {without}", 3, is_warning=True),
        ProfileProblem(str(path), f"mcp_server {without} (did you mean mcp_servers?)", 4, is_warning=True),
    }


def test_every_fault_of_a_definition_is_reported_at_once(place: Place) -> None:
    path = place.write("p.md", "---\nname: p\na2a:\n  max_depth: x\n  color: blue\n---\n")

    assert place.open().problems() == (
        ProfileProblem(str(path), "a2a.max_depth: Input should be a valid integer", 4),
        ProfileProblem(str(path), "a2a.color: there is no such setting", 5),
    )


_NO_FRONT_MATTER = "has no front matter: begin the file with a line of ---, its fields, and another line of ---"
_NO_END = "the front matter that begins here has no end: write a line of --- below its last field"


@pytest.mark.parametrize(
    ("text", "message"), [("", _NO_FRONT_MATTER), ("Just text.\n---\n", _NO_FRONT_MATTER), ("---\nname: p\n", _NO_END)]
)
def test_a_file_without_front_matter_is_reported(place: Place, text: str, message: str) -> None:
    path = place.write("p.md", text)

    assert place.open().problems() == (ProfileProblem(str(path), message, 1),)


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("description: Reviews: and runs", "put the text into quotation marks"),
        ("description: @home", "put the text into quotation marks"),
        ("description: *all", "put the text into quotation marks"),
        ('description: "never closed', "a bracket or a quotation mark is not closed"),
        ('description: "half" quoted', "text after a quotation mark is not allowed"),
        ("description", "a name of a field is followed by a colon"),
        ("tools: terminal, delegate", "write [terminal, delegate]"),
        ("tools: [terminl]", "did you mean terminal?"),
    ],
)
def test_a_frequent_mistake_has_a_hint(place: Place, line: str, hint: str) -> None:
    place.write("p.md", f"---\nname: p\n{line}\nmodel: inherit\n---\n")
    [problem] = place.open().problems()
    assert hint in problem.message
    assert problem.line in (3, 4, 5)


def test_a_file_that_is_not_text_is_reported(place: Place) -> None:
    path = place.write("p.md", "")
    path.write_bytes(b"---\nname: \xff\n---\n")

    assert place.open().problems() == (ProfileProblem(str(path), "cannot be read: UnicodeDecodeError"),)


def test_looking_up_a_broken_profile_says_where_and_why_it_is_broken(place: Place) -> None:
    place.write("file.md", "---\nname: writer\na2a:\n  max_depth: -1\n---\n")

    with pytest.raises(ModelNotFound) as caught:
        place.open().get("writer")

    assert caught.value.param == "model"
    assert "file.md, line 4: a2a.max_depth: " in caught.value.message


def test_a_readme_and_hidden_files_are_no_definitions(place: Place) -> None:
    place.write("README.md", "How to write profiles.\n")
    place.write(".p.md.swp.md", "half")
    place.write("p.md", "---\nname: p\n---\n")
    catalog = place.open()

    assert ([profile.name for profile in catalog.list()], catalog.problems()) == (["default", "p"], ())


def test_secrets_in_a_definition_appear_in_no_problem(place: Place) -> None:
    secret = "tok-4711-secret"
    place.write("yaml.md", f"---\nname: a\nmcp_config: {{x: {{url: 'https://h', headers: {{A: {secret}}}\n---\n")
    place.write("type.md", f"---\nname: b\nmcp_config: {{x: {{url: 5, headers: [{secret}]}}}}\n---\n")

    problems = place.open().problems()

    assert len({problem.path for problem in problems}) == 2
    assert secret not in str(problems)
