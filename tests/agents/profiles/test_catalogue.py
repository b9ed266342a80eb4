"""The catalogue: which profile counts, and what happens when files change."""

import os

import pytest

from a2a_gateway.errors import ModelNotFound
from a2a_gateway.runs.model import ProfileProblem
from a2a_gateway.runs.ports import Profiles
from tests.agents.profiles.place import Place

ONE = "---\nname: one\ndescription: {}\n---\n"


def test_with_only_an_llm_in_the_environment_there_is_the_default_agent(place: Place) -> None:
    catalog: Profiles = place.open()

    assert [(profile.model, profile.llm_model, profile.tools, profile.description) for profile in catalog.list()] == [
        (
            "openhands_default",
            "openai/gpt-4o",
            ("terminal", "file_editor", "task_tracker", "delegate"),
            "OpenHands agent on openai/gpt-4o, with terminal, file_editor, task_tracker, delegate.",
        )
    ]
    assert list(place.root.rglob("*")) == [place.profiles]  # nothing was made in anybody's home directory


def test_without_any_source_there_are_no_profiles_and_no_problems(bare_place: Place) -> None:
    catalog = bare_place.open()

    assert (list(catalog.list()), list(catalog.problems())) == ([], [])


def test_a_name_counts_in_the_first_source_that_has_it(place: Place) -> None:
    sources: dict[str, str] = {}
    place.environ["LLM_MODEL"] = "openai/gpt-4o-mini"
    sources["LLM_MODEL"] = place.open().get("default").source
    sources["llm"] = str(place.save_llm("default"))
    assert place.open().get("default").source == sources["llm"]
    sources["agent"] = str(place.save_agent("default", llm_profile_ref="default"))
    assert place.open().get("default").source == sources["agent"]
    sources["data"] = str(place.write("d.md", ONE.replace("one", "default"), directory=place.data_profiles))
    assert place.open().get("default").source == sources["data"]
    sources["first"] = str(place.write("d.md", ONE.replace("one", "default")))
    assert place.open().get("default").source == sources["first"]
    assert [profile.name for profile in place.open().list()] == ["default"]
    assert len(set(sources.values())) == 5


def test_a_broken_definition_still_hides_later_ones_of_its_name(place: Place) -> None:
    place.write("default.md", "---\nname: default\ntools: [nonsense]\n---\n")

    with pytest.raises(ModelNotFound, match=r"default\.md, line 3\b.*'nonsense'"):
        place.open().get("default")


def test_two_definitions_of_one_name_in_one_directory_are_a_problem_of_the_second(place: Place) -> None:
    first = place.write("a.md", ONE)
    second = place.write("b.md", ONE)
    catalog = place.open()

    assert catalog.get("one").source == str(first)
    assert catalog.problems() == (ProfileProblem(str(second), "the name 'one' is taken already, by a.md of this directory", 2),)


@pytest.mark.parametrize(
    "name", ["nobody", "self", "", "../profiles/one", "../../../../etc/passwd", "one.md", "a\x00b", "é" * 500]
)
def test_names_that_are_no_profile_are_not_found_wherever_they_point(place: Place, name: str) -> None:
    place.write("one.md", ONE)

    with pytest.raises(ModelNotFound) as caught:
        place.open().get(name)

    assert caught.value.code == "model_not_found"
    assert len(caught.value.message) < 300


def test_a_directory_that_was_named_but_is_not_there_is_a_problem_until_it_is(place: Place) -> None:
    place.profiles.rmdir()
    catalog = place.open()
    assert catalog.problems() == (ProfileProblem(str(place.profiles), "there is no such directory"),)

    place.profiles.mkdir()

    assert catalog.problems() == ()


def test_files_that_come_change_and_go_are_noticed_after_a_moment(place: Place) -> None:
    catalog = place.open()
    assert [profile.name for profile in catalog.list()] == ["default"]

    path = place.write("one.md", ONE.format("first"))
    place.later()
    assert catalog.get("one").description == "first"

    place.write("one.md", ONE.format("other"))
    os.utime(path, ns=(1, 1))
    place.later()
    assert catalog.get("one").description == "other"

    path.unlink()
    place.later()
    assert [profile.name for profile in catalog.list()] == ["default"]


def test_within_a_moment_files_are_not_looked_at_again_unless_asked(place: Place) -> None:
    catalog = place.open()
    place.write("one.md", ONE)

    assert [profile.name for profile in catalog.list()] == ["default"]
    assert catalog.refresh() is True
    assert [profile.name for profile in catalog.list()] == ["default", "one"]
    assert catalog.refresh() is False


def test_what_has_not_changed_is_the_very_same_object_again(place: Place) -> None:
    place.write("one.md", ONE)
    catalog = place.open()
    recipe = catalog.recipe("one")

    place.later()

    assert catalog.recipe("one") is recipe


def test_a_definition_that_breaks_is_reported_and_its_old_form_no_longer_served(place: Place) -> None:
    path = place.write("one.md", ONE)
    place.write("two.md", ONE.replace("one", "two"))
    catalog = place.open()
    assert [profile.name for profile in catalog.list()] == ["default", "one", "two"]

    path.write_text(ONE[: len(ONE) // 2])  # as an editor leaves it half written
    place.later()

    assert [profile.name for profile in catalog.list()] == ["default", "two"]
    assert catalog.problems() == (
        ProfileProblem(str(path), "the front matter that begins here has no end: write a line of --- below its last field", 1),
    )
    with pytest.raises(ModelNotFound, match=r"one\.md, line 1\b"):
        catalog.get("one")

    path.write_text(ONE.format("mended"))
    place.later()
    assert (catalog.get("one").description, catalog.problems()) == ("mended", ())


def test_a_definition_follows_the_llm_profile_that_it_names(place: Place) -> None:
    place.save_llm("fast", model="openai/gpt-4o-mini")
    place.write("one.md", "---\nname: one\nmodel: fast\n---\n")
    catalog = place.open()
    assert catalog.get("one").llm_model == "openai/gpt-4o-mini"

    place.save_llm("fast", model="openai/gpt-4o")
    place.later()

    assert catalog.get("one").llm_model == "openai/gpt-4o"


def test_a_named_pipe_among_the_definitions_does_not_block(place: Place) -> None:
    place.write("one.md", ONE)
    os.mkfifo(place.profiles / "pipe.md")
    place.save_llm("saved")
    os.mkfifo(place.openhands / "profiles" / "pipe.json")

    assert [profile.name for profile in place.open().list()] == ["default", "one", "saved"]


@pytest.mark.parametrize(("target", "error"), [("bad.md", "OSError"), ("one.md/x", "NotADirectoryError"), ("x" * 300, "OSError")])
def test_a_link_that_cannot_be_followed_is_reported_and_the_others_live(place: Place, target: str, error: str) -> None:
    place.write("one.md", ONE)
    (place.profiles / "bad.md").symlink_to(target)

    catalog = place.open()

    assert [profile.name for profile in catalog.list()] == ["default", "one"]
    [problem] = catalog.problems()
    assert (problem.path, problem.message.rpartition(": ")[2]) == (str(place.profiles / "bad.md"), error)
    (place.profiles / "bad.md").unlink()
    place.later()
    assert not catalog.problems()
