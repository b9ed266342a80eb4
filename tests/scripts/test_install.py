"""`make` installs with uv where it exists, as pip is configured, and with pip otherwise."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scripts import install


def environment(**variables: str) -> dict[str, str]:
    """What this process has, less what configures pip or uv on this machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_", "SSL_", "HTTP"))}
    return {**kept, **variables}


def test_what_pips_files_and_variables_set_reaches_uv_as_its_own_variables(tmp_path: Path) -> None:
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://of-global.example/simple\ntrusted-host =\n    a.example\n    b.example\ntimeout = 7\n"
        "find-links = /wheels /more\ncert = /ca.pem\n"
        "[install]\nindex-url = https://user:it's%20\"me@index.example/simple\n"
        "[download]\ntimeout = 9\n"
    )
    extra = "https://extra.example/simple file:///simple"
    environ = environment(PIP_CONFIG_FILE=str(config), PIP_EXTRA_INDEX_URL=extra, PIP_PROXY="http://proxy.example:3128")
    translated = install.translate_to_uv(install.read_pip_configuration(environ), environ)
    assert {name: value for name, value in translated.items() if name not in environ} == {
        "UV_DEFAULT_INDEX": "https://user:it's%20\"me@index.example/simple",
        "UV_INDEX": extra,
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_INSECURE_HOST": "a.example b.example",
        "UV_FIND_LINKS": "/wheels,/more",
        "UV_HTTP_TIMEOUT": "7",
        "SSL_CERT_FILE": "/ca.pem",
        "HTTP_PROXY": "http://proxy.example:3128",
        "HTTPS_PROXY": "http://proxy.example:3128",
    }


def test_variables_of_uv_that_are_set_already_are_kept() -> None:
    already = {"UV_INDEX_URL": "https://uv.example/simple", "SSL_CERT_FILE": "/of-uv.pem"}
    pip = {"index-url": "https://pip.example/simple", "cert": "/of-pip.pem"}
    assert install.translate_to_uv(pip, already) == already


def test_without_pip_configuration_nothing_is_translated() -> None:
    assert install.translate_to_uv({}, {"HOME": "/home/me"}) == {"HOME": "/home/me"}


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A package with nothing in it."""
    made = tmp_path / "nothing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("nothing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: nothing\nVersion: 1.0\n")
        archive.writestr("nothing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("nothing-1.0.dist-info/RECORD", "")
    return made


def put_uv_on_the_path(directory: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    directory.mkdir()
    uv = directory / "uv"
    uv.write_text(f"#!/bin/sh\n{script}\n")
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


def test_uv_installs_where_it_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    put_uv_on_the_path(tmp_path / "bin", 'echo "$@"', monkeypatch)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert install.install(["--editable", "."], 226) == 0
    assert f"pip install --compile-bytecode --python {sys.executable} --no-index --editable .\n" in capfd.readouterr().out


def test_a_second_installation_at_once_is_refused_and_leaves_the_first_alone(tmp_path: Path) -> None:
    (tmp_path / ".venv.lock").mkdir()
    kept = tmp_path / ".venv" / "kept"
    kept.mkdir(parents=True)
    script = Path(install.__file__).with_name("make-venv.sh")
    made = subprocess.run(["sh", script, tmp_path / ".venv"], capture_output=True, text=True, check=False)
    assert made.returncode == 1
    assert f"remove {tmp_path / '.venv.lock'}" in made.stderr
    assert kept.is_dir()
    assert (tmp_path / ".venv.lock").is_dir()


def test_where_uv_fails_pip_installs_and_one_line_says_why(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    put_uv_on_the_path(tmp_path / "bin", 'echo "$UV_DEFAULT_INDEX" >>"$0.index"; echo no such index >&2; exit 3', monkeypatch)
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:hush@127.0.0.1:9/simple")
    assert install.install(["--no-deps", "--target", str(tmp_path / "target"), str(wheel)], 1) == 0
    output = capfd.readouterr()
    assert (tmp_path / "target" / "nothing-1.0.dist-info").is_dir()
    assert [line for line in output.out.splitlines() if "exit code 3" in line] != []
    assert (tmp_path / "bin" / "uv.index").read_text() == "https://user:hush@127.0.0.1:9/simple\n"
    assert "hush" not in output.out + output.err


def test_the_reason_why_pip_failed_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert install.install(["--no-index", "--target", str(tmp_path), "there-is-no-such-package"], 1) != 0
    output = capfd.readouterr()
    assert "there-is-no-such-package" in output.err
    assert "\r" not in output.out


def test_the_progress_counts_what_is_collected_and_then_what_is_installed(tmp_path: Path) -> None:
    progress = install.Progress(3, tmp_path)
    lines = ["Collecting one\n", "  Downloading one\n", "Collecting two\n", "Installing collected packages: one, two\n"]
    shown = [str(progress) for _ in progress.follow(lines)]
    assert shown[2] == "downloading: 2 of 3 packages"
    (tmp_path / "lib" / "python3.13" / "site-packages" / "one-1.0.dist-info").mkdir(parents=True)
    assert str(progress) == "installing: 1 of 3 packages"
