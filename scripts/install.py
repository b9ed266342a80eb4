"""Install this project with its development tools, at the pinned versions, into the environment of the Python that runs this.

uv installs, where it exists: several times faster than pip. It does not read pip's configuration, so that is translated to uv's
variables. They reach uv in its environment only, because an index's URL may hold a password. If uv fails, pip installs.
"""

import ast
import os
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_PIP: Final = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")
_UV_VARIABLES: Final = {
    "index-url": ("UV_DEFAULT_INDEX",),
    "extra-index-url": ("UV_INDEX",),
    "find-links": ("UV_FIND_LINKS",),
    "trusted-host": ("UV_INSECURE_HOST",),
    "cert": ("SSL_CERT_FILE",),
    "client-cert": ("SSL_CLIENT_CERT",),
    "proxy": ("HTTP_PROXY", "HTTPS_PROXY"),
    "timeout": ("UV_HTTP_TIMEOUT",),
    "default-timeout": ("UV_HTTP_TIMEOUT",),
}
"""Variables by the name of pip's option."""
_OLD_NAMES: Final = {"UV_DEFAULT_INDEX": "UV_INDEX_URL", "UV_INDEX": "UV_EXTRA_INDEX_URL"}
"""Older names of a variable, which the user may have set instead."""
_SEPARATORS: Final = {"UV_FIND_LINKS": ","}


def main() -> int:
    """Install the project, from its root."""
    packages = Path("constraints.txt").read_text().count("==")
    print(f"Installing {packages} packages, once: some 200 MB to download, 1 GB on disk.", flush=True)
    # Read here, because --group needs a newer pip than Python 3.12 has.
    tools = tomllib.loads(Path("pyproject.toml").read_text())["dependency-groups"]["dev"]
    try:
        return install(["--constraint", "constraints.txt", "--editable", ".", *tools], packages)
    except KeyboardInterrupt:
        print("\nInterrupted. The next call starts again from nothing.", file=sys.stderr)
        return 130


def install(requirements: Sequence[str], packages: int) -> int:
    """Install with uv, or with pip where uv does not exist or fails. Return the exit code."""
    uv = shutil.which("uv")
    if uv is None:
        print("pip takes 2 to 5 minutes. (uv, where it is installed, takes a minute.)", flush=True)
        return _run_pip(requirements, packages)
    print("uv takes about a minute.", flush=True)
    pip = read_pip_configuration(os.environ)
    # Bytecode is compiled here, in parallel: the first start would take 20 seconds longer.
    command = [uv, "pip", "install", "--compile-bytecode", "--python", sys.executable]
    command += ["--no-index"] if _is_set(pip, "no-index") else []
    code = subprocess.run([*command, *requirements], env=translate_to_uv(pip, os.environ), check=False).returncode
    if code:
        print(f"uv failed with exit code {code}; pip tries it now, which takes 2 to 5 minutes.", flush=True)
        return _run_pip(requirements, packages)
    return 0


def read_pip_configuration(environ: Mapping[str, str]) -> dict[str, str]:
    """Read what pip's files and variables set for `pip install`, by the name of the option."""
    listed = subprocess.run([*_PIP, "config", "list"], env=environ, capture_output=True, text=True, check=False).stdout
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        section, _, option = name.rpartition(".")
        if section in found:
            found[section][option] = str(ast.literal_eval(value))
    return found["global"] | found["install"] | found[":env:"]  # each overrides the ones before it, as in pip


def translate_to_uv(pip: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for uv. What it sets already is left as it is."""
    translated = {
        variable: _SEPARATORS.get(variable, " ").join(pip[option].split())
        for option, variables in _UV_VARIABLES.items()
        if pip.get(option, "").strip()
        for variable in variables
        if _OLD_NAMES.get(variable, variable) not in environ
    }
    if "UV_INDEX" in translated:
        translated["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # pip looks for each package in all its indexes
    return translated | dict(environ)


def _is_set(pip: Mapping[str, str], option: str) -> bool:
    return pip.get(option, "").lower() in ("1", "true", "yes", "on")


def _run_pip(requirements: Sequence[str], packages: int) -> int:
    """Run pip and report its progress. Its output is a line or more a package, so it is printed only if pip fails."""
    command = [*_PIP, "install", "--progress-bar", "off", *requirements]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as pip:
        progress = Progress(packages, Path(sys.prefix))
        with progress.show():
            output = list(progress.follow(pip.stdout or ()))
    if pip.returncode:
        print("".join(output[-30:]), end="", file=sys.stderr)
    return pip.returncode


class Progress:
    """How far pip is: it reports what it downloads, and nothing while it copies files, so that installed packages are counted."""

    def __init__(self, packages: int, environment: Path) -> None:
        self._packages = packages
        self._environment = environment
        self._collected = 0
        self._installs = False
        self._ended = threading.Event()

    def __str__(self) -> str:
        installed = sum(1 for _ in self._environment.glob("lib/python*/site-packages/*.dist-info"))
        done, what = (installed, "installing") if self._installs else (self._collected, "downloading")
        return f"{what}: {min(done, self._packages)} of {self._packages} packages"

    def follow(self, lines: Iterable[str]) -> Iterator[str]:
        """Pass on pip's lines, and count what they report."""
        for line in lines:
            self._collected += line.startswith("Collecting ")
            self._installs |= line.startswith("Installing collected packages")
            yield line

    @contextmanager
    def show(self) -> Iterator[None]:
        """Show the progress until the context ends: on one line of a terminal, elsewhere as a line every ten seconds."""
        clock = threading.Thread(target=self._report)
        clock.start()
        try:
            yield
        finally:
            self._ended.set()
            clock.join()

    def _report(self) -> None:
        interval_s, start, end = (1, "\r\033[K", "") if sys.stdout.isatty() else (10, "", "\n")
        seconds = 0
        while not self._ended.wait(interval_s):
            seconds += interval_s
            print(f"{start}{seconds // 60}:{seconds % 60:02} {self}", end=end, flush=True)
        print(start, end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
