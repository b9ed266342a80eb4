"""The catalogue: every profile by name, from all sources, kept up to date with the files.

A look-up costs a dictionary access and, at most twice a second, one `stat` per file. If a file has changed, all files are read
again, because definitions refer to each other.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from openhands.sdk.utils.cipher import Cipher

from a2a_gateway.agents.llm.sampling import ignored_options
from a2a_gateway.agents.profiles.definition_errors import UndecryptableError, definition_error
from a2a_gateway.agents.profiles.key_files import KeyFiles, Stamp, stamp_of
from a2a_gateway.agents.profiles.llm_environment import LLMEnvironment
from a2a_gateway.agents.profiles.llm_resolver import LLMResolver
from a2a_gateway.agents.profiles.markdown_source import MarkdownSource
from a2a_gateway.agents.profiles.openhands_source import SavedSource
from a2a_gateway.agents.profiles.profile_log import log_reload
from a2a_gateway.agents.profiles.profile_warnings import profile_warnings
from a2a_gateway.agents.profiles.recipe_builder import Entry
from a2a_gateway.agents.profiles.saved_llms import SavedLLMs
from a2a_gateway.agents.recipe import AgentRecipe
from a2a_gateway.agents.sdk_patches.ollama_model_info import OLLAMA_MODEL_INFO
from a2a_gateway.agents.sdk_patches.patching import require
from a2a_gateway.errors import ConfigurationError, ModelBroken, ModelNotFound
from a2a_gateway.llm_settings import secret_variables
from a2a_gateway.runs.messages import Sampling
from a2a_gateway.runs.model import Profile, ProfileProblem
from a2a_gateway.settings import Settings
from delegate_tool.masking import Secrets
from delegate_tool.protocol.values import MODEL_PREFIX

_RECHECK_S: Final = 0.5
_NOT_DEFINITIONS: Final = frozenset({"readme.md"})

_UNREADABLE: Final[Stamp] = (0, 0, 0)
type Snapshot = Mapping[Path, Stamp]


@dataclass(frozen=True, slots=True)
class _State:
    """One state of the catalogue; replaced as a whole, so that a reader in another thread never sees a partial one.

    Attributes:
        key_files: the files that hold keys of LLMs, each in the state from before it was read.
    """

    snapshot: Snapshot
    key_files: Snapshot
    found: tuple[Entry, ...]
    entries: Mapping[str, Entry]
    secrets: Secrets
    llms: LLMResolver

    @property
    def problems(self) -> tuple[ProfileProblem, ...]:
        """What is wrong with the definitions, also with those that are hidden by others."""
        of_entries = (problem for entry in self.found for problem in entry.problems)
        # Without repetitions: the default agent has the faults of the entry of `[[llms]]` whose LLM it uses.
        return tuple(dict.fromkeys((*of_entries, *profile_warnings(self.found))))


class ProfileCatalog:
    """All profiles. If two have the same name, the one from the earlier source wins, even if it is broken.

    Sources, in order: markdown in `settings.profile_dirs`, OpenHands' Agent Profiles, the LLMs of `settings.llms`, OpenHands' LLM
    profiles, the default LLM.
    """

    def __init__(
        self,
        settings: Settings,
        environment: LLMEnvironment,
        *,
        clock: Callable[[], float] = time.monotonic,
        conceal: Callable[[Iterable[str]], None] | None = None,
    ) -> None:
        """Load everything; `clock` counts seconds from any origin.

        `conceal` removes environment variables from the process. It receives those that hold keys.

        Raises:
            ConfigurationError: a saved LLM key was encrypted with an unknown key.
        """
        self._settings = settings
        self._environment = environment
        self._clock = clock
        self._conceal = conceal
        self._key_variables = secret_variables(settings.llms)
        self._markdown_dirs = settings.profile_dirs
        self._named_dirs = tuple(
            path.expanduser().resolve() for path in settings.profiles if "profiles" in settings.model_fields_set
        )
        self._agents_dir = environment.persistence_dir / "agent-profiles"
        self._llms_dir = environment.persistence_dir / "profiles"
        self._connections_dir = environment.persistence_dir / "provider-connections"
        keys = [key.get_secret_value() for key in environment.cipher_keys]
        self._cipher = Cipher(keys[0], previous_keys=keys[1:]) if keys else None
        self._checked_at = clock()
        snapshot = self._snapshot()
        saved = self._saved_llms(snapshot)
        _refuse_undecryptable(saved)
        self._state = self._load(snapshot, saved)

    def get(self, name: str) -> Profile:
        """Return a profile by name (without prefix).

        Raises:
            ModelNotFound: it does not exist; `ModelBroken` if its definition cannot be used, with the reason.
        """
        return self.recipe(name).profile

    def recipe(self, name: str) -> AgentRecipe:
        """Return the recipe of a profile by name.

        Raises:
            ModelNotFound: as for `get`.
        """
        self._refresh_when_due()
        entry = self._state.entries.get(name)
        if entry is None:
            raise ModelNotFound(
                f"There is no model {MODEL_PREFIX + name[:80]!r}; GET /v1/models lists those there are.", param="model"
            )
        if entry.recipe is None:
            raise ModelBroken(f"The model {MODEL_PREFIX + name!r} is broken: {_render_problems(entry.problems)}.", param="model")
        return entry.recipe

    @property
    def directories(self) -> Sequence[Path]:
        """The directories whose files are definitions, whether or not they exist."""
        return (*self._markdown_dirs, self._agents_dir, self._llms_dir, self._connections_dir)

    @property
    def llms(self) -> LLMResolver:
        """The LLMs that definitions can name."""
        self._refresh_when_due()
        return self._state.llms

    def ignored_options(self, model: str, requested: Sampling) -> tuple[str, ...]:
        """Return the options of a request that a model's LLM ignores or reduces; empty for a model of another site."""
        if requested == Sampling() or not model.startswith(MODEL_PREFIX):
            return ()
        self._refresh_when_due()
        entry = self._state.entries.get(model.removeprefix(MODEL_PREFIX))
        return () if entry is None or entry.recipe is None else ignored_options(entry.recipe.llm, requested)

    def mask(self, text: str) -> str:
        """Replace the credentials of all LLMs and MCP servers in a text."""
        return self._state.secrets.mask(text)

    def list(self) -> Sequence[Profile]:
        """Return all usable profiles, by name."""
        self._refresh_when_due()
        return [entry.recipe.profile for _, entry in sorted(self._state.entries.items()) if entry.recipe is not None]

    def problems(self) -> Sequence[ProfileProblem]:
        """Return what is wrong with all definitions, hidden ones included, and the named directories that do not exist.

        An author asks for them after a change, so the files are always looked at.
        """
        self.refresh()
        missing = (path for path in self._named_dirs if not path.is_dir())
        return (
            *(ProfileProblem(str(path), "there is no such directory") for path in missing),
            *self._state.problems,
        )

    def refresh(self) -> bool:
        """Read everything again if a file was added, removed or changed; return whether one was."""
        self._checked_at = self._clock()
        try:
            # The stamps are taken before the files are read: a file that changes in between is read again next time.
            snapshot = self._snapshot()
            keys = {path: stamp_of(path) for path in self._state.key_files}
        except OSError:
            return False  # for example, no file descriptors are left: the current state stays
        if (snapshot, keys) == (self._state.snapshot, self._state.key_files):
            return False
        before, self._state = self._state, self._load(snapshot, self._saved_llms(snapshot))
        log_reload(before.snapshot, snapshot, before.problems, self._state.problems)
        return True

    def _refresh_when_due(self) -> None:
        if self._clock() - self._checked_at >= _RECHECK_S:
            self.refresh()

    def _snapshot(self) -> Snapshot:
        stamps: dict[Path, Stamp] = {}
        for directory in self._markdown_dirs:
            stamps.update(_stamps(directory, ".md"))
        for directory in (self._agents_dir, self._llms_dir, self._connections_dir):
            stamps.update(_stamps(directory, ".json"))
        return stamps

    def _saved_llms(self, files: Snapshot) -> SavedLLMs:
        return SavedLLMs.read((path for path in files if path.parent == self._llms_dir), self._cipher)

    def _load(self, snapshot: Snapshot, saved: SavedLLMs) -> _State:
        resolver, found = self._read_all(snapshot, saved)
        unknown = resolver.key_variables - self._key_variables
        self._key_variables |= unknown
        if unknown and any(entry.recipe is not None and entry.recipe.mcp_config for entry in found):
            # A definition that was read earlier may have put one of these variables into an MCP server.
            resolver, found = self._read_all(snapshot, saved)
        if self._conceal is not None:
            self._conceal(resolver.key_variables)
        entries: dict[str, Entry] = {}
        for entry in found:
            entries.setdefault(entry.name, entry)
        recipes = [entry.recipe for entry in found if entry.recipe is not None]
        secrets = Secrets.of(secret for recipe in recipes for secret in recipe.secrets)
        return _State(snapshot, resolver.key_files.stamps, found, entries, secrets, resolver)

    def _read_all(self, files: Snapshot, saved: SavedLLMs) -> tuple[LLMResolver, tuple[Entry, ...]]:
        llms = {llm.name: llm for llm in self._settings.llms}
        resolver = LLMResolver(saved, self._environment, llms, KeyFiles(), set(self._key_variables))
        with require(OLLAMA_MODEL_INFO):
            return resolver, tuple(self._read(files, resolver))

    def _read(self, files: Snapshot, llms: LLMResolver) -> Iterator[Entry]:
        markdown = MarkdownSource(llms, self._settings)
        saved = SavedSource(llms, self._settings, self._llms_dir)
        for directory in self._markdown_dirs:
            yield from _unique(markdown.read(path) for path in files if path.parent == directory)
        yield from (saved.read_agent_profile(path) for path in files if path.parent == self._agents_dir)
        yield from saved.read_entries()
        yield from saved.read_llm_profiles()
        yield from saved.read_default()


def _stamps(directory: Path, suffix: str) -> Iterator[tuple[Path, Stamp]]:
    try:
        with os.scandir(directory) as listing:
            found = sorted((entry for entry in listing if _is_definition(entry, suffix)), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    for entry in found:
        with suppress(FileNotFoundError):  # removed after it was listed
            yield directory / entry.name, _stamp(entry)


def _stamp(entry: os.DirEntry[str]) -> Stamp:
    try:
        stat = entry.stat()
    except FileNotFoundError:
        raise
    except OSError:
        return _UNREADABLE
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _is_definition(entry: os.DirEntry[str], suffix: str) -> bool:
    if not entry.name.endswith(suffix) or entry.name.startswith(".") or entry.name.lower() in _NOT_DEFINITIONS:
        return False
    try:
        return entry.is_file()
    except OSError:  # a circular link, or one into an unreadable directory: reading the file reports it as a problem
        return True


def _unique(entries: Iterator[Entry]) -> Iterator[Entry]:
    # Between directories their order decides which profile wins. Within one directory only the alphabet could, so it is an error.
    sources: dict[str, Entry] = {}
    for entry in entries:
        first = sources.setdefault(entry.name, entry)
        if first is entry or entry.recipe is None:
            yield entry
        else:
            yield Entry(entry.name, problems=_name_problems(entry, first), document=entry.document)


def _name_problems(entry: Entry, first: Entry) -> tuple[ProfileProblem, ...]:
    if entry.document is None or first.document is None:
        return ()
    message = f"the name {entry.name!r} is taken already, by {first.document.path.name} of this directory"
    return entry.document.problems(definition_error(message, "name"))


def _refuse_undecryptable(saved: SavedLLMs) -> None:
    wrong = {name: error for name, error in saved.found.items() if isinstance(error, UndecryptableError)}
    if wrong:
        names = ", ".join(sorted(wrong))
        raise ConfigurationError(f"OpenHands' LLM profiles cannot be decrypted ({names}): {next(iter(wrong.values()))}.")


def _render_problems(problems: Sequence[ProfileProblem]) -> str:
    return "; ".join(
        f"{Path(problem.path).name}{'' if problem.line is None else f', line {problem.line}'}: {problem.message}"
        for problem in problems
    )
