"""Execute the actions of grep and glob within the workspace.

The SDK's own executors start programs with the agent's pattern among the arguments, change the directory of the whole process,
and follow links. These start no program and end in bounded time: a search with an expensive pattern is stopped, and blocks no
other thread until then. The observations are the SDK's.
"""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import regex
from openhands.sdk.tool import ToolExecutor
from openhands.tools.glob import GlobAction, GlobObservation
from openhands.tools.grep import GrepAction, GrepObservation

from a2a_gateway.agents.tools.patterns import glob_expression
from a2a_gateway.agents.tools.regular_expressions import MAX_EXPRESSION_CHARS, ExpressionError, compile_expression
from a2a_gateway.host.confined_files import Confinement, FoundFile, Refused, read_regular
from delegate_tool.protocol.text import well_formed

if TYPE_CHECKING:
    from openhands.sdk.conversation import LocalConversation

_MAX_RESULTS: Final = 100
_MAX_GLOB_EXPRESSION_CHARS: Final = 10 * MAX_EXPRESSION_CHARS
"""A pattern of file names grows about tenfold when it is translated. An expression of this length compiles in 0.1 s."""
_TIMEOUT_S: Final = 10.0
_TRUNCATED: Final = "\n\n[Results truncated to first 100 files. Consider using a more specific pattern.]"
_STOPPED: Final = "\n\n[The search was stopped after {:g} s, so files may be missing. Use a simpler pattern or a narrower path.]"


@dataclass(slots=True)
class _Search:
    """One search, and the files that it found before its timeout."""

    files: Confinement
    timeout_s: float
    stopped: bool = False
    found: list[tuple[float, str]] = field(default_factory=list)

    def run(self, path: str, matches: Callable[[FoundFile, float], bool], *, hidden: bool) -> None:
        deadline = time.monotonic() + self.timeout_s
        try:
            with closing(self.files.files(path, hidden=hidden)) as files:
                for file in files:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise TimeoutError
                    if matches(file, left):
                        self.found.append((file.modified_at, well_formed(str(file.path))))
        except TimeoutError:
            self.stopped = True

    def newest(self, root: str) -> list[str]:
        return [f"{root}/{path}" for _, path in sorted(self.found, key=lambda item: (-item[0], item[1]))[:_MAX_RESULTS]]

    @property
    def note(self) -> str:
        truncated = _TRUNCATED if len(self.found) > _MAX_RESULTS else ""
        return truncated + _STOPPED.format(self.timeout_s) if self.stopped else truncated


class _Searcher:
    """The common part of both executors.

    Args:
        timeout_s: when a search is stopped; it returns the files found by then.
    """

    def __init__(self, workspace_dir: str, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._files = Confinement(workspace_dir)

    def _begin(self) -> _Search:
        return _Search(self._files, self._timeout_s)

    def _directory(self, path: str) -> str:
        """Return the real path of a directory.

        Raises:
            Refused: it is not a directory, or outside of the workspace.
        """
        self._files.entries(path)
        with self._files.locate(path) as resolved:
            return str(resolved.path)


class ConfinedGrep(_Searcher, ToolExecutor[GrepAction, GrepObservation]):
    """Finds the files whose content matches a regular expression, ignoring case."""

    def __call__(self, action: GrepAction, conversation: "LocalConversation | None" = None) -> GrepObservation:
        """Search; a refusal becomes an observation with an error."""
        directory = action.path or str(self._files.root)
        try:
            directory = self._directory(directory)
            pattern = _compile(action.pattern, regex.IGNORECASE)
            included = _compile_glob(action.include) if action.include else None

            def matches(file: FoundFile, left_s: float) -> bool:
                if included is not None and included.fullmatch(file.path.name, timeout=left_s) is None:
                    return False
                text = _text(file)
                return text is not None and pattern.search(text, timeout=left_s, concurrent=True) is not None

            search = self._begin()
            search.run(directory, matches, hidden=_matches_hidden(action.include or ""))
        except Refused as refusal:
            return self._observation(action, directory, str(refusal), is_error=True)
        paths = search.newest(directory)
        filtered = f" (filtered by '{action.include}')" if action.include else ""
        head = f"Found {len(paths)} file(s) containing" if paths else "No files found containing"
        text = f"{head} pattern '{action.pattern}' in '{directory}'{filtered}{_list(paths)}{search.note}"
        return self._observation(action, directory, text, matches=paths, truncated=bool(search.note))

    def _observation(
        self,
        action: GrepAction,
        path: str,
        text: str,
        matches: list[str] | None = None,
        *,
        truncated: bool = False,
        is_error: bool = False,
    ) -> GrepObservation:
        return GrepObservation.from_text(
            text,
            matches=matches or [],
            pattern=action.pattern,
            search_path=path,
            include_pattern=action.include,
            truncated=truncated,
            is_error=is_error,
        )


class ConfinedGlob(_Searcher, ToolExecutor[GlobAction, GlobObservation]):
    """Finds the files whose path matches a pattern. A pattern without `**` matches in every directory."""

    def __call__(self, action: GlobAction, conversation: "LocalConversation | None" = None) -> GlobObservation:
        """Search; a refusal becomes an observation with an error."""
        directory, pattern = action.path or str(self._files.root), action.pattern
        try:
            if pattern.startswith("/"):
                directory, pattern = self._split_absolute(pattern)
            elif "**" not in pattern:
                pattern = f"**/{pattern}"
            directory = self._directory(directory)
            compiled = _compile_glob(pattern)
            search = self._begin()
            search.run(
                directory,
                lambda file, left_s: compiled.fullmatch(str(file.path), timeout=left_s, concurrent=True) is not None,
                hidden=_matches_hidden(pattern),
            )
        except Refused as refusal:
            return GlobObservation.from_text(str(refusal), files=[], pattern=action.pattern, search_path=directory, is_error=True)
        paths = search.newest(directory)
        head = f"Found {len(paths)} file(s) matching" if paths else "No files found matching"
        text = f"{head} pattern '{action.pattern}' in '{directory}'{_list(paths)}{search.note}"
        return GlobObservation.from_text(
            text, files=paths, pattern=action.pattern, search_path=directory, truncated=bool(search.note)
        )

    def _split_absolute(self, pattern: str) -> tuple[str, str]:
        """Split an absolute pattern into the workspace and the pattern below it."""
        root = str(self._files.root)
        if not pattern.startswith(root + "/"):
            raise Refused(f"{pattern} is outside of the workspace {root}. Use a pattern relative to it.")
        return root, pattern.removeprefix(root + "/")


def _compile(expression: str, flags: int = 0, *, max_chars: int = MAX_EXPRESSION_CHARS) -> "regex.Pattern[str]":
    try:
        return compile_expression(expression, flags, max_chars=max_chars)
    except ExpressionError as error:
        raise Refused(f"Invalid pattern: {error}") from None


def _compile_glob(pattern: str) -> "regex.Pattern[str]":
    # Checked before the braces are expanded: many alternatives of a long pattern would take all memory.
    if len(pattern) > MAX_EXPRESSION_CHARS:
        raise Refused(f"Invalid pattern: it has {len(pattern)} characters, at most {MAX_EXPRESSION_CHARS} are allowed")
    return _compile(glob_expression(pattern), max_chars=_MAX_GLOB_EXPRESSION_CHARS)


def _text(file: FoundFile) -> str | None:
    """Return a file's text; None if it cannot be read, is too large, or is binary."""
    try:
        data = read_regular(file.path.name, file.directory)
    except Refused:
        return None
    return None if b"\0" in data[:8192] else data.decode(errors="replace")


def _matches_hidden(pattern: str) -> bool:
    return pattern.startswith(".") or "/." in pattern


def _list(paths: list[str]) -> str:
    return ":\n" + "\n".join(paths) if paths else ""
