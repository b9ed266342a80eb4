"""The content of a task: its text, from an argument or from standard input, and the files that `--file` adds."""

import base64
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final

from a2a_gateway.cli.command_error import EXIT_USAGE, CommandError
from a2a_gateway.cli.screen import note

if TYPE_CHECKING:
    from a2a_gateway.cli.streamed_answer import Content

_MOST_BYTES: Final = 1_000_000
"""Of a file: about 250,000 tokens of text, which is more than most LLMs read."""
_IMAGES: Final = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp"}


def read_task(task: str | None) -> str:
    """Return the text of a task: the argument, or standard input for None and for `-`.

    Raises:
        CommandError: the task is empty, or standard input is not UTF-8.
    """
    from delegate_tool.protocol.text import well_formed

    if task in (None, "-"):
        task = _read_standard_input()
    text = well_formed(task or "")
    if not text.strip():
        raise CommandError("The task is empty.", "Give it as an argument, or on standard input.", exit_code=EXIT_USAGE)
    return text


def add_files(task: str, paths: Sequence[Path]) -> "Content":
    """Add files to a task: text below it, marked with the file's name, and images as images.

    Raises:
        CommandError: a file cannot be read, is too large, or is neither text nor an image.
    """
    images: list[Mapping[str, object]] = []
    for path in paths:
        data = _read(path)
        media_type = _IMAGES.get(path.suffix.lower())
        if media_type is None:
            task = f"{task.rstrip()}\n\n{_mark_text(path, data)}"
        else:
            url = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
            images.append({"type": "image_url", "image_url": {"url": url}})
    return [{"type": "text", "text": task}, *images] if images else task


def _read_standard_input() -> str:
    if sys.stdin.isatty():
        note("Type the task; Ctrl-D on a line of its own ends it.")
    try:
        return sys.stdin.read()
    except UnicodeDecodeError:
        raise CommandError("Standard input is not UTF-8 text.", "Add another file with --file.", exit_code=EXIT_USAGE) from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise CommandError(f"--file {path}: {error.strerror}.", "Name a file that you can read.", exit_code=EXIT_USAGE) from None
    if len(data) > _MOST_BYTES:
        raise CommandError(
            f"--file {path}: it is larger than {_MOST_BYTES:,} bytes.",
            "Name a smaller file, or let the agent read it in its workspace.",
            exit_code=EXIT_USAGE,
        )
    return data


def _mark_text(path: Path, data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise CommandError(
            f"--file {path}: it is neither UTF-8 text nor an image ({', '.join(_IMAGES)}).", "Convert it.", exit_code=EXIT_USAGE
        )
    tag = "file"
    while f"</{tag}>" in text:
        tag += "_"  # the text must not be able to end its own mark
    return f'<{tag} name="{escape(path.name)}">\n{text.removesuffix("\n")}\n</{tag}>'
