"""Nothing outside a directory is reached through it, whatever stands in it, and however it changes meanwhile."""

import errno
import os
import resource
import socket
import threading
from pathlib import Path

import pytest

from a2a_gateway.host.confined_files import MAX_FILE_BYTES, Confinement, Refused

SECRET = b"the gateway's key"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "secret").write_bytes(SECRET)
    return directory


@pytest.fixture
def inside(tmp_path: Path, outside: Path) -> Path:
    directory = tmp_path / "inside"
    (directory / "sub" / "deep").mkdir(parents=True)
    (directory / "sub" / "file").write_bytes(b"content")
    links: dict[str, Path | str] = {
        "secret": outside / "secret",
        "dir": outside,
        "up": "../outside",
        "sub/upup": "../../outside",
        "loop": "loop",
        "good": "sub/file",
        "sub/deep/back": "../../good",
        "absolute": directory / "sub",
        "dangling": outside / "new",
    }
    for name, target in links.items():
        (directory / name).symlink_to(target)
    os.mkfifo(directory / "fifo")
    return directory


@pytest.mark.parametrize(
    "path",
    [
        "secret", "dir/secret", "up/secret", "sub/upup/secret", "../outside/secret", "sub/../../outside/secret", "/etc/passwd",
        "absolute/../../outside/secret", "sub/absolute/../../secret", "loop", "loop/x", "fifo", "", ".", "sub", "missing",
        "sub/file/x", "a\0b",
    ],
)  # fmt: skip
def test_what_is_outside_or_no_regular_file_is_not_read(inside: Path, path: str) -> None:
    with pytest.raises(Refused):
        Confinement(str(inside)).read(path)


@pytest.mark.parametrize(
    "path", ["sub/file", "good", "sub/deep/back", "absolute/file", "sub/../good", "./sub//file", "absolute/deep/../file"]
)
def test_links_within_are_followed(inside: Path, path: str) -> None:
    files = Confinement(str(inside))
    assert files.read(path) == files.read(f"{inside}/{path}") == b"content"


@pytest.mark.parametrize(
    "path", ["secret", "dir/new", "up/new", "dangling", "../new", "fifo", "sub", "dir/a/b", "/tmp/a2a-new", ""]
)
def test_nothing_is_written_outside_or_over_what_is_no_regular_file(inside: Path, outside: Path, path: str) -> None:
    with pytest.raises(Refused):
        Confinement(str(inside)).write(path, b"mine")
    assert [(file.name, file.read_bytes()) for file in outside.iterdir()] == [("secret", SECRET)]


def test_writing_makes_directories_follows_links_within_and_keeps_the_mode(inside: Path) -> None:
    files = Confinement(str(inside))
    (inside / "sub" / "file").chmod(0o750)
    files.write("new/er/file", b"1")
    files.write("good", b"2")
    assert (inside / "new/er/file").read_bytes() == b"1"
    assert (inside / "sub/file").read_bytes() == b"2"
    assert (inside / "sub/file").stat().st_mode & 0o777 == 0o750
    assert (inside / "good").is_symlink()
    assert not list(inside.rglob("*.tmp"))


def test_a_file_that_is_too_large_is_refused(inside: Path) -> None:
    with (inside / "large").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(Refused):
        Confinement(str(inside)).read("large")


def test_a_socket_is_refused(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(inside)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(Refused):
            Confinement(str(inside)).read("socket")


def test_a_link_swapped_while_it_is_read_never_gives_what_is_outside(inside: Path, outside: Path) -> None:
    files = Confinement(str(inside))
    (inside / "swap").mkdir()
    (inside / "real").mkdir()
    (inside / "real" / "secret").write_bytes(b"harmless")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for target in (outside, inside / "real"):
                os.symlink(target, inside / "swap" / "next")
                os.replace(inside / "swap" / "next", inside / "swap" / "dir")
                os.symlink(target / "secret", inside / "swap" / "next")
                os.replace(inside / "swap" / "next", inside / "swap" / "file")

    swapper = threading.Thread(target=swap)
    swapper.start()
    read = set()
    try:
        for path in ("swap/dir/secret", "swap/file") * 1500:
            try:
                read.add(files.read(path))
            except Refused:
                read.add(b"refused")
    finally:
        stop.set()
        swapper.join()
    assert read == {b"refused", b"harmless"}


def test_a_walk_meets_regular_files_only_and_leaves_out_hidden_ones(inside: Path) -> None:
    (inside / ".hidden").mkdir()
    (inside / ".hidden" / "x").touch()
    files = Confinement(str(inside))
    assert {str(file.path) for file in files.files(".")} == {"sub/file"}
    assert {str(file.path) for file in files.files("sub", hidden=True)} == {"file"}
    assert {str(file.path) for file in files.files(".", hidden=True)} == {"sub/file", ".hidden/x"}
    for path in ("dir", "up", "sub/file"):
        with pytest.raises(Refused):
            list(files.files(path))


def test_no_descriptor_is_left_open(inside: Path) -> None:
    files = Confinement(str(inside))
    before = set(Path("/proc/self/fd").iterdir()) if Path("/proc/self/fd").is_dir() else set()
    for path in ("sub/file", "sub/deep/back", "dir/secret", "loop", "absolute/deep/../file", "fifo"):
        try:
            files.read(path)
        except Refused:
            continue
    list(files.files("."))
    after = set(Path("/proc/self/fd").iterdir()) if before else set()
    assert len(after) == len(before)


def test_a_write_that_fails_leaves_nothing_behind(inside: Path) -> None:
    before = sorted(os.listdir(inside))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # Python ignores the signal, and sees an error as of a full disk
    try:
        with pytest.raises(Refused, match=os.strerror(errno.EFBIG)):
            Confinement(str(inside)).write("new", b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(os.listdir(inside)) == before
