"""Open files below one directory only, whatever links the tree contains, and even if they change at the same time.

A path is walked one component at a time. Each component is opened relative to the descriptor of the one before, never through a
link; the target of a link is walked in the same way. So there is no moment between a check and a use. Only regular files are
opened. Hard links and mounts of other processes cannot be detected.
"""

import errno
import os
import secrets
import stat
from collections import deque
from collections.abc import Collection, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from delegate_tool.protocol.text import well_formed

MAX_FILE_BYTES: Final = 10 * 1024 * 1024
_MAX_LINKS: Final = 40
_MAX_DEPTH: Final = 100
"""The limit of nested directories. Each is open while a path is walked, and the whole gateway shares one limit of open files."""
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Opening a FIFO without O_NONBLOCK waits for a writer.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Refused(Exception):
    """A path is not allowed or not usable; the message is for the agent."""


@dataclass(frozen=True, slots=True)
class ResolvedPath:
    """A resolved path: a name, which is not a link, in an open directory. `name` is `.` for the root itself."""

    path: Path
    directory: int
    name: str

    def status(self) -> os.stat_result | None:
        """Return the status of the file; None if there is no file."""
        with suppress(FileNotFoundError):
            return os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)
        return None


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A regular file found by a walk: its path below the start of the walk, and its time of modification."""

    path: PurePosixPath
    modified_at: float
    directory: int


class Confinement:
    """Opens, reads and writes below one directory."""

    def __init__(self, root: str, protected: Collection[Path] = ()) -> None:
        """`root` must exist. Paths may be relative to it, or absolute and below it.

        No file of `protected` is written, and no file in a directory of `protected`. These are resolved paths.
        """
        self.root = Path(root).resolve()
        self._protected = frozenset(map(_fold, protected))
        self._spellings = (self.root, Path(root).absolute())

    @contextmanager
    def locate(self, path: str, *, make_parents: bool = False) -> Iterator[ResolvedPath]:
        """Resolve a path, which need not exist; its directory is open during the context.

        Raises:
            Refused: it leads out of the root, or through something that is not a directory.
        """
        opened = [os.open(self.root, _DIRECTORY)]
        try:
            yield self._walk_to(path, opened, make_parents=make_parents)
        except OSError as error:
            raise Refused(f"{path}: {error.strerror}") from None
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def read(self, path: str) -> bytes:
        """Read a regular file of at most `MAX_FILE_BYTES`.

        Raises:
            Refused: it is not such a file, or `locate` refuses the path.
        """
        with self.locate(path) as resolved:
            return read_regular(resolved.name, resolved.directory)

    def write(self, path: str, data: bytes) -> None:
        """Replace a regular file, or create one with its directories, atomically: a reader sees the old or the new content.

        Raises:
            Refused: something else is there, or `locate` refuses the path.
        """
        with self.locate(path, make_parents=True) as resolved:
            if not self._protected.isdisjoint({_fold(resolved.path), _fold(resolved.path.parent)}):
                raise Refused(f"{path} belongs to the gateway's own settings, which no agent may change.")
            status = resolved.status()
            if status is not None and not stat.S_ISREG(status.st_mode):
                raise Refused(f"{path} is not a regular file.")
            temporary = f".{secrets.token_hex(8)}.tmp"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(temporary, flags, 0o666, dir_fd=resolved.directory)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    if status is not None:
                        os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode))
                    file.write(data)
                os.replace(temporary, resolved.name, src_dir_fd=resolved.directory, dst_dir_fd=resolved.directory)
            except OSError:  # for example, the disk is full, or a directory has replaced the file
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=resolved.directory)
                raise

    def entries(self, path: str) -> tuple[list[tuple[str, bool]], int]:
        """List a directory: the sorted names, each with whether it is a directory, and the number of hidden names left out.

        Raises:
            Refused: it is not a directory, or `locate` refuses the path.
        """
        with self._directory(path) as directory, os.scandir(directory) as scan:
            found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in scan)
        visible = [entry for entry in found if not entry[0].startswith(".")]
        return visible, len(found) - len(visible)

    def files(self, path: str, *, hidden: bool = False) -> Generator[FoundFile]:
        """Yield the regular files below a directory, down to a limited depth; hidden ones only if `hidden` is set.

        Links are not followed.

        Raises:
            Refused: it is not a directory, or `locate` refuses the path.
        """
        with self._directory(path) as top:
            for at, directories, names, directory in os.fwalk(".", dir_fd=top):
                below = PurePosixPath(at)
                deeper = directories if len(below.parts) < _MAX_DEPTH else []
                directories[:] = sorted(name for name in deeper if hidden or not name.startswith("."))
                for name in sorted(names):
                    status = ResolvedPath(self.root, directory, name).status()
                    if (hidden or not name.startswith(".")) and status is not None and stat.S_ISREG(status.st_mode):
                        yield FoundFile(below / name, status.st_mtime, directory)

    @contextmanager
    def _directory(self, path: str) -> Iterator[int]:
        with self.locate(path) as resolved:
            directory = os.open(resolved.name, _DIRECTORY, dir_fd=resolved.directory)
            try:
                yield directory
            finally:
                os.close(directory)

    def _walk_to(self, path: str, opened: list[int], *, make_parents: bool) -> ResolvedPath:
        pending = deque(self._relative(path))
        names: list[str] = []
        links = 0
        while pending:
            name = pending.popleft()
            if well_formed(name) != name:
                raise Refused(f"{well_formed(path)} leads to a name that is not UTF-8.")
            if name == "..":
                if not names:
                    raise self._outside(path)
                names.pop()
                os.close(opened.pop())
                continue
            target = _link_target(name, opened[-1])
            if target is not None:
                links += 1
                if links > _MAX_LINKS:
                    raise Refused(f"{path} leads through too many links.")
                if target.startswith("/"):
                    while names:
                        names.pop()
                        os.close(opened.pop())
                    pending.extendleft(reversed(self._relative(target, shown=path)))
                else:
                    pending.extendleft(reversed(_parts(target)))
            elif pending:
                if len(names) >= _MAX_DEPTH:
                    raise Refused(f"{path} is more than {_MAX_DEPTH} directories deep.")
                if make_parents:
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=opened[-1])
                opened.append(os.open(name, _DIRECTORY, dir_fd=opened[-1]))
                names.append(name)
            else:
                return ResolvedPath(self.root.joinpath(*names, name), opened[-1], name)
        return ResolvedPath(self.root.joinpath(*names), opened[-1], ".")

    def _relative(self, path: str, shown: str | None = None) -> list[str]:
        if "\0" in path:
            raise Refused("A path cannot contain a NUL character.")
        if not path.startswith("/"):
            return _parts(path)
        # ".." is resolved during the walk, because the component before it may be a link.
        for root in self._spellings:
            parts = _parts(path)
            if parts[: len(root.parts) - 1] == list(root.parts[1:]):
                return parts[len(root.parts) - 1 :]
        raise self._outside(shown or path)

    def _outside(self, path: str) -> Refused:
        return Refused(f"{path} is outside of the workspace {self.root}. Use a path inside it.")


def read_regular(name: str, directory: int) -> bytes:
    """Read a regular file of at most `MAX_FILE_BYTES` in an open directory, not through a link.

    Raises:
        Refused: it is not such a file.
    """
    try:
        if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            raise Refused(f"{name} is not a regular file.")
        with os.fdopen(os.open(name, _FILE, dir_fd=directory), "rb") as file:
            # Checked again, because the file may have been replaced. The first check keeps devices from being opened.
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Refused(f"{name} is not a regular file.")
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise Refused(f"{name}: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise Refused(f"{name} is too large: at most {MAX_FILE_BYTES // 1024 // 1024} MB can be read.")
    return data


def _fold(path: Path) -> Path:
    """Return a path for comparisons: some file systems do not distinguish `profiles` from `Profiles`."""
    return Path(str(path).casefold())


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in {"", "."}]


def _link_target(name: str, directory: int) -> str | None:
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as error:
        if error.errno in {errno.EINVAL, errno.ENOENT}:
            return None
        raise
