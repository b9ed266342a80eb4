"""The file editor: what it does in a workspace, and that it does nothing elsewhere."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from openhands.sdk.llm import ImageContent
from openhands.tools.file_editor import FileEditorAction, FileEditorObservation

from a2a_gateway.agents.tools.file_editor import ConfinedFileEditor

PNG = bytes.fromhex("89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de")


class Desk:
    """An editor, and its workspace."""

    def __init__(self, root: Path, *, vision: bool = False, protected: Sequence[Path] = ()) -> None:
        self.root = root
        self.executor = ConfinedFileEditor(str(root), vision=vision, protected=protected)

    def do(self, command: str, path: str, **arguments: Any) -> FileEditorObservation:
        return self.executor(FileEditorAction.model_validate({"command": command, "path": path, **arguments}))


@pytest.fixture
def desk(workspace: Path) -> Desk:
    return Desk(workspace)


def test_a_file_is_made_viewed_edited_and_taken_back(desk: Desk) -> None:
    path = desk.root / "pkg" / "a.py"
    made = desk.do("create", str(path), file_text="one\ntwo\nthree\n")
    assert (made.is_error, made.prev_exist, made.new_content) == (False, False, "one\ntwo\nthree\n")
    assert desk.do("view", str(path), view_range=[2, -1]).text == (
        f"Here's the result of running `cat -n` on {path}:\n     2\ttwo\n     3\tthree\n"
    )
    edited = desk.do("str_replace", str(path), old_str="two", new_str="zwei\nzwo")
    assert (edited.old_content, edited.new_content) == ("one\ntwo\nthree\n", "one\nzwei\nzwo\nthree\n")
    desk.do("insert", "pkg/a.py", insert_line=4, new_str="four")
    assert path.read_text() == "one\nzwei\nzwo\nthree\nfour\n"
    desk.do("undo_edit", str(path))
    desk.do("undo_edit", str(path))
    assert path.read_text() == "one\ntwo\nthree\n"
    assert desk.do("undo_edit", str(path)).is_error


@pytest.mark.parametrize("path", ["profiles/new.md", "Profiles/new.md", "link/new.md", "profiles/here.md", "gateway.toml"])
def test_the_gateway_s_own_settings_are_not_changed(workspace: Path, path: str) -> None:
    (workspace / "profiles").mkdir()
    (workspace / "profiles" / "here.md").write_text("before")
    (workspace / "link").symlink_to("profiles")
    protected = [workspace / "profiles", workspace / "gateway.toml"]
    desk = Desk(workspace, protected=protected)
    for command, arguments in (("create", {"file_text": "x"}), ("str_replace", {"old_str": "before", "new_str": "after"})):
        assert desk.do(command, path, **arguments).is_error
    assert [file.name for file in workspace.rglob("*.*")] == ["here.md"]
    assert (workspace / "profiles" / "here.md").read_text() == "before"
    assert not desk.do("create", "profiles/below/new.md", file_text="x").is_error


def test_a_directory_is_listed_two_levels_deep_without_hidden_and_linked_ones(desk: Desk, tmp_path: Path) -> None:
    (desk.root / "a" / "b" / "c").mkdir(parents=True)
    (desk.root / ".git").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").touch()
    (desk.root / "link").symlink_to(tmp_path / "elsewhere")
    shown = desk.do("view", str(desk.root)).text
    assert [line for line in shown.splitlines() if line.startswith("/")] == [
        f"{desk.root}/",
        f"{desk.root}/a/",
        f"{desk.root}/a/b/",
        f"{desk.root}/link",
    ]
    assert "1 hidden" in shown


@pytest.mark.parametrize("command", ["view", "create", "str_replace", "insert", "undo_edit"])
@pytest.mark.parametrize("path", ["{outside}", "../secret", "link", "linked/secret", "fifo"])
def test_no_command_touches_what_is_outside_or_is_no_file(desk: Desk, tmp_path: Path, command: str, path: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("sesame")
    (desk.root / "link").symlink_to(secret)
    (desk.root / "linked").symlink_to(tmp_path)
    os.mkfifo(desk.root / "fifo")
    arguments = {"file_text": "x", "old_str": "sesame", "new_str": "x", "insert_line": 0}
    refused = desk.do(command, path.format(outside=secret), **arguments)
    assert refused.is_error
    assert "sesame" not in refused.text.replace("`sesame`", "")
    assert secret.read_text() == "sesame"


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("create", {"file_text": "x"}),
        ("create", {}),
        ("str_replace", {"old_str": "b", "new_str": "c"}),
        ("str_replace", {"old_str": "missing", "new_str": "c"}),
        ("str_replace", {"old_str": " ", "new_str": "c"}),
        ("str_replace", {"old_str": "a", "new_str": "a"}),
        ("str_replace", {"old_str": "a"}),
        ("insert", {"insert_line": 4, "new_str": "x"}),
        ("insert", {"new_str": "x"}),
        ("view", {"view_range": [3, 2]}),
        ("view", {"view_range": [4, 5]}),
        ("view", {"view_range": [0, 1]}),
        ("view", {"view_range": [1]}),
        ("undo_edit", {}),
    ],
)
def test_what_cannot_be_done_changes_nothing_and_says_so(desk: Desk, command: str, arguments: dict[str, object]) -> None:
    file = desk.root / "file"
    file.write_text("a\nb\nb\n")
    assert desk.do(command, str(file), **arguments).is_error
    assert file.read_text() == "a\nb\nb\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"a\r\nold\r\n", b"a\r\nnew\r\nline\r\n"),
        (b"\xef\xbb\xbfold", b"\xef\xbb\xbfnew\nline"),
        (b"caf\xe9 old \xff\n", b"caf\xe9 new\nline \xff\n"),
        (b"a\x0cold\xe2\x80\xa8b", b"a\x0cnew\nline\xe2\x80\xa8b"),
        (b"mixed\r\nold\n", b"mixed\r\nnew\nline\n"),
    ],
)
def test_an_edit_changes_nothing_else_in_a_file(desk: Desk, before: bytes, after: bytes) -> None:
    file = desk.root / "file"
    file.write_bytes(before)
    desk.do("str_replace", str(file), old_str="old", new_str="new\nline")
    assert file.read_bytes() == after
    desk.do("undo_edit", str(file))
    assert file.read_bytes() == before


def test_what_the_old_encoding_cannot_say_makes_the_file_utf8(desk: Desk) -> None:
    file = desk.root / "file"
    file.write_bytes(b"caf\xe9 old")
    desk.do("str_replace", str(file), old_str="old", new_str="→")
    assert file.read_text() == "café →"


def test_a_binary_file_is_refused_and_an_image_shown_to_those_who_can_see(workspace: Path) -> None:
    (workspace / "image.png").write_bytes(PNG)
    (workspace / "data").write_bytes(b"a\0b")
    blind, seeing = Desk(workspace), Desk(workspace, vision=True)
    assert blind.do("view", "data").is_error
    assert blind.do("view", "image.png").is_error
    _, image = seeing.do("view", "image.png").content
    assert isinstance(image, ImageContent)
    assert image.image_urls[0].startswith("data:image/png;base64,iVBORw0KGgo")


def test_nothing_is_left_beside_what_was_asked_for(desk: Desk) -> None:
    histories = set(Path(tempfile.gettempdir()).glob("oh_editor_history_*"))
    editor = Desk(desk.root)
    editor.do("create", "a", file_text="1")
    editor.do("str_replace", "a", old_str="1", new_str="2")
    assert set(Path(tempfile.gettempdir()).glob("oh_editor_history_*")) == histories
    assert [path.name for path in desk.root.iterdir()] == ["a"]


def test_edits_of_one_file_are_kept_apart_however_it_is_named(desk: Desk) -> None:
    (desk.root / "file").touch()
    (desk.root / "link").symlink_to("file")
    names = {desk.executor.resolve_path(path) for path in ("file", "link", f"{desk.root}/file", "./file")}
    assert names == {f"{desk.root}/file"}


def test_a_listing_tells_names_that_are_no_text(desk: Desk) -> None:
    os.mkdir(os.fsencode(desk.root) + b"/d\xff")
    (desk.root / "d").symlink_to(os.fsdecode(b"d\xff"))
    assert f"\n{desk.root}/d\N{REPLACEMENT CHARACTER}/" in desk.do("view", ".").text
    assert desk.do("view", "d").text == "d leads to a name that is not UTF-8."


def test_what_an_agent_is_told_of_its_mistakes_is_short(desk: Desk) -> None:
    (desk.root / "file").write_text("a\n" * 100_000)
    many = desk.do("str_replace", "file", old_str="a", new_str="b")
    assert many.is_error and "19, 20] and 99980 more." in many.text
    assert len(desk.do("str_replace", "file", old_str="z" * 1_000_000, new_str="b").text) < 20_000


def test_a_file_whose_name_is_as_long_as_names_may_be_is_written(desk: Desk) -> None:
    assert not desk.do("create", "\N{CJK UNIFIED IDEOGRAPH-597D}" * 85, file_text="x").is_error


def test_a_path_that_would_hold_very_many_directories_open_is_refused(desk: Desk) -> None:
    made = desk.do("create", "d/" * 200 + "file", file_text="x")
    assert made.is_error and made.text.endswith("is more than 100 directories deep.")


def test_an_edit_that_had_to_change_the_encoding_is_taken_back_to_the_byte(desk: Desk) -> None:
    (desk.root / "old").write_bytes(b"caf\xe9\n")
    assert not desk.do("insert", "old", insert_line=1, new_str="\N{CJK UNIFIED IDEOGRAPH-597D}").is_error
    assert not desk.do("undo_edit", "old").is_error
    assert (desk.root / "old").read_bytes() == b"caf\xe9\n"
