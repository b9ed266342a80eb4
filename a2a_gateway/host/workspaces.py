"""Create and remove the directories in which agents work: one per conversation, private to the gateway's user.

Implements `runs.ports.Workspaces`. The content of a workspace is untrusted, because an agent wrote it. So no function here opens
a file, follows a link or runs a program in one; only removal walks through it.
"""

import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from anyio import to_thread

from a2a_gateway.errors import RequestError, StoreError, WorkspaceNotAllowed
from a2a_gateway.runs.event_log import get_log
from a2a_gateway.runs.model import ConversationId
from delegate_tool.protocol.fields import Header

log = get_log(__name__)

_PRIVATE: Final = 0o700
_MAX_DEPTH: Final = 50
_NAMEABLE: Final = re.compile(r"[A-Za-z0-9-]{1,64}")


@dataclass(frozen=True, slots=True)
class WorkspaceDirectories:
    """Creates and removes workspaces, each a direct child of `root`, to which only the gateway writes."""

    root: Path

    async def create(self, conversation_id: ConversationId) -> str:
        """Create an empty directory that only the gateway's user may enter; its path has no symbolic links.

        Raises:
            StoreError: it cannot be created.
        """
        prefix = f"{conversation_id}-" if _NAMEABLE.fullmatch(conversation_id) else ""
        return await _make_directory(self._create, prefix)

    async def ensure(self, path: str) -> str:
        """Create a directory if it does not exist, such as one that a profile names; return its resolved path.

        Raises:
            StoreError: it cannot be created.
        """
        return await _make_directory(_ensure, path)

    async def resolve_named(self, path: str, allowed: Sequence[str]) -> str:
        """Return the resolved path of an existing directory that a caller names, if it is one of those allowed or below one.

        Links are resolved on both sides. The directory above `root` holds the gateway's keys, and `root` the workspaces of other
        callers. Neither these, nor what is in them, nor what contains them may be named.

        Raises:
            WorkspaceNotAllowed: it is not allowed.
            RequestError: there is no such directory, or it cannot be worked in.
        """
        return await to_thread.run_sync(self._resolve_named, path, allowed)

    def locate(self, path: str) -> str:
        """Return the present path of a workspace that `create` made at `path`, perhaps before `root` was moved."""
        return str(self.root.resolve() / Path(path).name)

    async def remove(self, path: str) -> None:
        """Remove a directory made by `create`, with its content; ignore a missing one.

        Files that the gateway's user may not remove stay; see `remove_tree`.

        Raises:
            ValueError: the path is not one that `create` made.
        """
        if Path(path).parent != self.root.resolve() or Path(path).name == "..":
            raise ValueError(f"{path} is not a workspace under {self.root}: it was not made here, so it is not removed here.")
        await to_thread.run_sync(remove_tree, Path(path))

    async def sweep(self, keep: Collection[str]) -> int:
        """Remove the workspaces of earlier processes, except those in `keep`; return how many. Call it before the first run."""
        return await to_thread.run_sync(partial(self._sweep, frozenset(map(self.locate, keep))))

    def _resolve_named(self, path: str, allowed: Sequence[str]) -> str:
        resolved = Path(os.path.realpath(path))
        if not any(resolved.is_relative_to(os.path.realpath(each)) for each in allowed):
            places = ", ".join(allowed) or "none"
            raise WorkspaceNotAllowed(
                f"This key may not name {path!r} as a workspace. It may name directories below: {places}. "
                "`a2a-gateway keys create NAME --workspaces DIR` makes a key that may name more.",
                param=Header.WORKSPACE,
            )
        is_directory = os.access(f"{resolved}/.", os.R_OK | os.X_OK)
        if not is_directory or not str(resolved).isprintable():  # a database and a prompt need a name that is text
            raise RequestError(
                f"{path!r} is no directory of the gateway's machine that its user may read. Create it, or name another.",
                param=Header.WORKSPACE,
            )
        if any(_is_within(resolved, own) or _is_within(own, resolved) for own in (self.root.parent, self.root) if own.exists()):
            raise WorkspaceNotAllowed(
                f"{path!r} contains the gateway's data, or is part of it. Name another directory.", param=Header.WORKSPACE
            )
        return str(resolved)

    def _create(self, prefix: str) -> str:
        root = self.root.resolve()
        try:
            return tempfile.mkdtemp(prefix=prefix, dir=root)
        except FileNotFoundError:  # `root` does not exist yet
            root.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
            return tempfile.mkdtemp(prefix=prefix, dir=root)

    def _sweep(self, keep: frozenset[str]) -> int:
        if not self.root.is_dir():
            return 0
        leftovers = [path for path in self.root.resolve().iterdir() if str(path) not in keep]
        return sum(map(remove_tree, leftovers))


def _is_within(inner: Path, outer: Path) -> bool:
    """Return whether a directory is another, or in it. Compares files, because paths may differ in case on macOS."""
    inner = inner.resolve()
    return any(directory.samefile(outer) for directory in (inner, *inner.parents))


async def _make_directory(make: Callable[[str], str], name: str) -> str:
    try:
        return await to_thread.run_sync(make, name)
    except OSError as error:
        raise StoreError(f"The gateway cannot make a directory for the agent to work in: {error.strerror}.") from None


def _ensure(path: str) -> str:
    directory = Path(path).expanduser()
    directory.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    return str(directory.resolve())


def remove_tree(path: Path) -> bool:
    """Remove a directory with its content; return whether all was removed. A missing directory is ignored.

    Links are removed, not followed.

    If that fails, directories without permissions for their owner get them, and very deep ones are moved to the top, because
    removing a tree keeps its nested directories open. The processes that worked in it must have ended. Files that the gateway's
    user may not remove, such as those that a container created as root, stay, and a warning is logged.
    """
    try:
        _remove(path)
    except (OSError, RecursionError):
        return _remove_as_far_as_possible(path)
    return True


def _remove_as_far_as_possible(path: Path) -> bool:
    failures: list[BaseException] = []
    try:
        _open_up(path)
        shutil.rmtree(path, onexc=lambda _, __, error: failures.append(error))
    except OSError as error:
        failures.append(error)
    if failures:  # not raised, so that the other directories are removed and the gateway starts
        log.warning("directory_not_removed", path=str(path), error=type(failures[0]).__name__)
    return not failures


def _remove(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        shutil.rmtree(path)
    else:
        path.unlink()


def _open_up(top: Path) -> None:
    """Make every directory of a tree readable and writable for its owner, and move directories deeper than `_MAX_DEPTH` up."""
    top.chmod(_PRIVATE)
    root = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        while _open_up_once(root):
            pass
    finally:
        os.close(root)


def _open_up_once(root: int) -> bool:
    """Walk a tree from the top down, moving deep directories to the top; return whether one was moved."""
    moved = False
    for at, names, _, directory in os.fwalk(".", dir_fd=root):
        is_deep = at.count("/") >= _MAX_DEPTH
        for name in names:
            if not stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                continue  # a link
            with suppress(PermissionError):  # another user's
                os.chmod(name, _PRIVATE, dir_fd=directory)
            if is_deep:
                os.rename(name, f"deep-{secrets.token_hex(8)}", src_dir_fd=directory, dst_dir_fd=root)
                moved = True
        if is_deep:
            names.clear()
    return moved
