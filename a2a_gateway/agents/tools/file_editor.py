"""Execute the actions of the file editor, with every path confined to the workspace.

The SDK's own executor follows links, blocks on FIFOs, and leaves a directory behind. This one opens files relative to descriptors
(`host.confined_files`), and keeps its undo history in memory. The observations are the SDK's.
"""

import base64
import mimetypes
import stat
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, assert_never

from openhands.sdk.llm import ImageContent, TextContent
from openhands.sdk.tool import ToolExecutor
from openhands.sdk.utils import maybe_truncate
from openhands.tools.file_editor import FileEditorAction, FileEditorObservation
from openhands.tools.file_editor.utils.constants import (
    DIRECTORY_CONTENT_TRUNCATED_NOTICE,
    MAX_RESPONSE_LEN_CHAR,
    TEXT_FILE_CONTENT_TRUNCATED_NOTICE,
)

from a2a_gateway.host.confined_files import Confinement, Refused
from delegate_tool.protocol.text import well_formed

if TYPE_CHECKING:
    from openhands.sdk.conversation import LocalConversation

_IMAGES: Final = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp"})
_CONTEXT_LINES: Final = 4
_NAMED_LINES: Final = 20
_REMEMBERED_CHARS: Final = 8 * 1024 * 1024
type _Edit = Literal["str_replace", "insert"]
_BOM: Final = b"\xef\xbb\xbf"


class ConfinedFileEditor(ToolExecutor[FileEditorAction, FileEditorObservation]):
    """Views, creates and edits files of one workspace."""

    def __init__(self, workspace_dir: str, *, vision: bool, protected: Collection[Path] = ()) -> None:
        """`vision` is whether the agent's LLM accepts images; for `protected` see `Confinement`."""
        self._files = Confinement(workspace_dir, protected)
        self._vision = vision
        self._past: list[_TextFile] = []

    def __call__(self, action: FileEditorAction, conversation: "LocalConversation | None" = None) -> FileEditorObservation:
        """Execute an action; a refusal becomes an observation with an error."""
        try:
            return self._apply(action)
        except Refused as refusal:
            text = maybe_truncate(str(refusal), MAX_RESPONSE_LEN_CHAR)  # it may quote a long text of the agent
            return FileEditorObservation.from_text(text, command=action.command, path=action.path, is_error=True)

    def resolve_path(self, path: str) -> str:
        """Return the path with links resolved, by which the SDK serialises edits of one file."""
        try:
            with self._files.locate(path) as resolved:
                return str(resolved.path)
        except Refused:
            return path

    def _apply(self, action: FileEditorAction) -> FileEditorObservation:
        match action.command:
            case "view":
                return self._view(action)
            case "create":
                return self._create(action.path, _require(action.file_text, "file_text"))
            case "str_replace":
                return self._replace(action.path, _require(action.old_str, "old_str"), _require(action.new_str, "new_str"))
            case "insert":
                return self._insert(action.path, _require(action.insert_line, "insert_line"), _require(action.new_str, "new_str"))
            case "undo_edit":
                return self._undo(action.path)
            case _:
                assert_never(action.command)

    def _view(self, action: FileEditorAction) -> FileEditorObservation:
        with self._files.locate(action.path) as resolved:
            status, path, suffix = resolved.status(), str(resolved.path), resolved.path.suffix.lower()
        if status is None:
            raise Refused(f"The path {action.path} does not exist. Please provide a valid path.")
        if stat.S_ISDIR(status.st_mode):
            if action.view_range:
                raise Refused("`view_range` is not allowed when `path` points to a directory.")
            return FileEditorObservation.from_text(self._listing(path), command="view", path=path)
        data = self._files.read(action.path)
        if suffix in _IMAGES:
            return self._image(path, data)
        lines = _lines(_TextFile.decode(data, path).text)
        first, last = _view_range(action.view_range, len(lines))
        return FileEditorObservation.from_text(_number_lines(lines, path, first, last), command="view", path=path)

    def _listing(self, directory: str) -> str:
        entries, hidden = self._files.entries(directory)
        lines = [f"{directory}/"]
        for name, is_directory in entries:
            lines.append(f"{directory}/{name}{'/' if is_directory else ''}")
            if is_directory:
                with suppress(Refused):
                    below, _ = self._files.entries(f"{directory}/{name}")
                    lines.extend(f"{directory}/{name}/{child}{'/' if is_below else ''}" for child, is_below in below)
        text = f"Here's the files and directories up to 2 levels deep in {directory}, excluding hidden items:\n" + "\n".join(
            lines
        )
        if hidden:
            text += f"\n\n{hidden} hidden files/directories in this directory are excluded."
        return maybe_truncate(well_formed(text), MAX_RESPONSE_LEN_CHAR, DIRECTORY_CONTENT_TRUNCATED_NOTICE)

    def _image(self, path: str, data: bytes) -> FileEditorObservation:
        if not self._vision:
            raise Refused(f"{path} is an image, and your model does not accept images.")
        kind = mimetypes.guess_type(path)[0] or "image/png"
        url = f"data:{kind};base64,{base64.b64encode(data).decode()}"
        text = TextContent(text=f"Image file {path} read successfully. Displaying image content.")
        return FileEditorObservation(command="view", path=path, content=[text, ImageContent(image_urls=[url])])

    def _create(self, path: str, text: str) -> FileEditorObservation:
        with self._files.locate(path, make_parents=True) as resolved:
            if resolved.status() is not None:
                raise Refused(f"File already exists at: {path}. Cannot overwrite files using command `create`.")
            created = str(resolved.path)
        self._files.write(path, text.encode(errors="replace"))
        return FileEditorObservation.from_text(
            f"File created successfully at: {created}", command="create", path=created, prev_exist=False, new_content=text
        )

    def _replace(self, path: str, old: str, new: str) -> FileEditorObservation:
        if old == new:
            raise Refused("No replacement was performed. `new_str` and `old_str` must be different.")
        file = self._open(path)
        # Models often add white space around the text that they quote. The new text is used unchanged.
        sought = old if file.text.count(old) else old.strip()
        count = file.text.count(sought) if sought else 0
        if count == 0:
            raise Refused(f"No replacement was performed, old_str `{old}` did not appear verbatim in {path}.")
        if count > 1:
            begins = sought.split("\n")[0]
            lines = [number for number, line in enumerate(file.text.split("\n"), 1) if begins in line]
            more = f" and {len(lines) - _NAMED_LINES} more" if len(lines) > _NAMED_LINES else ""
            raise Refused(
                f"No replacement was performed. Multiple occurrences of old_str `{old}` in lines {lines[:_NAMED_LINES]}{more}. "
                "Make it unique."
            )
        before, _, after = file.text.partition(sought)
        at = before.count("\n") + 1
        return self._save_edit(
            "str_replace", file, before + new + after, at - _CONTEXT_LINES, at + new.count("\n") + _CONTEXT_LINES
        )

    def _insert(self, path: str, after_line: int, new: str) -> FileEditorObservation:
        file = self._open(path)
        lines = _lines(file.text)
        if after_line > len(lines):
            raise Refused(f"Invalid `insert_line` {after_line}: it should be within {[0, len(lines)]}.")
        before = "".join(lines[:after_line])
        if before and not before.endswith("\n"):
            before += "\n"
        block = new if new.endswith("\n") else new + "\n"
        text = before + block + "".join(lines[after_line:])
        return self._save_edit(
            "insert", file, text, after_line + 1 - _CONTEXT_LINES, after_line + block.count("\n") + _CONTEXT_LINES
        )

    def _undo(self, path: str) -> FileEditorObservation:
        file = self._open(path)
        before = next((past for past in reversed(self._past) if past.path == file.path), None)
        if before is None:
            raise Refused(f"No edit history found for {path}.")
        self._past = [past for past in self._past if past is not before]
        self._files.write(file.path, before.encode(before.text))
        return FileEditorObservation.from_text(
            f"Last edit to {file.path} undone successfully. {_number_lines(_lines(before.text), file.path)}",
            command="undo_edit",
            path=file.path,
            old_content=file.text,
            new_content=before.text,
        )

    def _open(self, path: str) -> "_TextFile":
        with self._files.locate(path) as resolved:
            status, real = resolved.status(), str(resolved.path)
        if status is None:
            raise Refused(f"The path {path} does not exist. Please provide a valid path.")
        if stat.S_ISDIR(status.st_mode):
            raise Refused(f"The path {path} is a directory and only the `view` command can be used on directories.")
        return _TextFile.decode(self._files.read(real), real)

    def _save_edit(self, command: _Edit, file: "_TextFile", text: str, first: int, last: int) -> FileEditorObservation:
        self._files.write(file.path, file.encode(text))
        self._remember(file)
        lines = _lines(text)
        snippet = _number_lines(lines, f"a snippet of {file.path}", max(1, first), min(len(lines), last))
        return FileEditorObservation.from_text(
            f"The file {file.path} has been edited. {snippet}"
            "Review the changes and make sure they are as expected. Edit the file again if necessary.",
            command=command,
            path=file.path,
            old_content=file.text,
            new_content=text,
        )

    def _remember(self, file: "_TextFile") -> None:
        self._past.append(file)
        while sum(len(past.text) for past in self._past) > _REMEMBERED_CHARS and len(self._past) > 1:
            self._past.pop(0)


@dataclass(frozen=True, slots=True)
class _TextFile:
    """A file's text with `\\n` line ends, and its encoding and line ends, which an edit preserves."""

    path: str
    text: str
    encoding: str
    bom: bool
    crlf: bool

    @classmethod
    def decode(cls, data: bytes, path: str) -> "_TextFile":
        if b"\0" in data:
            raise Refused(f"{path} appears to be binary and cannot be viewed or edited by this tool.")
        bom = data.startswith(_BOM)
        encoding = "utf-8"
        try:
            text = data.removeprefix(_BOM).decode()
        except UnicodeDecodeError:
            # The encoding is unknown. With this one, all bytes that are not edited are written back unchanged.
            encoding, text = "latin-1", data.decode("latin-1")
        crlf = "\r\n" in text and text.count("\r\n") == text.count("\n")
        return cls(path, text.replace("\r\n", "\n") if crlf else text, encoding, bom, crlf)

    def encode(self, text: str) -> bytes:
        text = text.replace("\n", "\r\n") if self.crlf else text
        try:
            data = text.encode(self.encoding)
        except UnicodeEncodeError:
            data = text.encode(errors="replace")
        return _BOM + data if self.bom else data


def _require[T](value: T | None, name: str) -> T:
    if value is None:
        raise Refused(f"Parameter `{name}` is required for this command.")
    return value


def _lines(text: str) -> list[str]:
    """Split a text after each `\\n`, but not at the other line ends of Unicode."""
    *lines, tail = text.split("\n")
    return [line + "\n" for line in lines] + ([tail] if tail else [])


def _view_range(wanted: list[int] | None, count: int) -> tuple[int, int]:
    if not wanted:
        return 1, count
    if len(wanted) != 2:
        raise Refused(f"Invalid `view_range` {wanted}: it should be a list of two integers.")
    first, last = wanted[0], count if wanted[1] == -1 else min(wanted[1], count)
    if not 1 <= first <= max(count, 1):
        raise Refused(f"Invalid `view_range` {wanted}: its first element should be within {[1, count]}.")
    if last < first:
        raise Refused(f"Invalid `view_range` {wanted}: its second element should not be less than the first.")
    return first, last


def _number_lines(lines: list[str], source: str, first: int = 1, last: int | None = None) -> str:
    """Render lines as `cat -n` does; 1-based, `last` inclusive."""
    text = maybe_truncate("".join(lines[first - 1 : last]), MAX_RESPONSE_LEN_CHAR, TEXT_FILE_CONTENT_TRUNCATED_NOTICE)
    numbered = "".join(f"{number:6}\t{line}" for number, line in enumerate(_lines(text), first))
    output = f"Here's the result of running `cat -n` on {source}:\n{numbered}"
    return output if output.endswith("\n") else output + "\n"
