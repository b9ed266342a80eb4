"""Replace names of other packages, and restore the originals.

OpenHands, LiteLLM and httpx have no switch for some things that a gateway must do or prevent. So names in their modules are
replaced, for the whole process, which may belong to another application. There are two kinds of patches:

| | required | optional |
|---|---|---|
| why | without them an agent is unsafe, an LLM call is paid twice, or a server stops the event loop | they save time |
| applied by | a gateway that runs agents in this process | `a2a-gateway serve` alone |
| a name is missing | `ConfigurationError` | a warning; the others are applied |
| undone | when the last such gateway is left | never: the process is the gateway's |

`agents.assembly.REQUIRED_PATCHES` lists the first kind. A change that can be made in an object of our own needs no patch:
`tool_threads` and `MeteredLLM` override methods of the SDK's classes.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from a2a_gateway.errors import ConfigurationError
from a2a_gateway.runs.event_log import get_log

log = get_log(__name__)


@dataclass(frozen=True, slots=True)
class Patch:
    """One name of another package, and its replacement.

    Attributes:
        owner: the module that contains the name, or `module:Class` for an attribute of a class.
        replace: makes the replacement from the original.
        needs: further names that the replacement uses, each with its owner. Without them the patch cannot be applied.
    """

    owner: str
    name: str
    replace: Callable[[Any], Any]
    needs: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class _Applied:
    owner: object
    original: object
    users: int = 0


# The replaced names are state of the process, so the originals are kept per process. `_LOCK` guards them: gateways may start in
# threads.
_APPLIED: Final[dict[Patch, _Applied]] = {}
_LOCK: Final = threading.Lock()


@contextmanager
def require(patches: Sequence[Patch]) -> Iterator[None]:
    """Apply patches until the last context that requires them ends.

    Raises:
        ConfigurationError: a name is missing, so the behaviour of the installed version is unknown.
    """
    with _LOCK:
        for patch in patches:
            _check(patch)
        for patch in patches:
            _apply(patch).users += 1
    try:
        yield
    finally:
        with _LOCK:
            for patch in reversed(patches):
                _release(patch)


def apply_optional(patches: Sequence[Patch]) -> None:
    """Apply patches until the process ends, and leave out those whose names are missing. Idempotent."""
    with _LOCK:
        for patch in patches:
            try:
                _check(patch)
            except ConfigurationError as error:
                log.warning("optimisation_left_out", owner=patch.owner, name=patch.name, reason=error.message)
            else:
                _apply(patch)


def _check(patch: Patch) -> None:
    for owner, name in ((patch.owner, patch.name), *patch.needs):
        if not _has(owner, name):
            raise ConfigurationError(
                f"{owner} has no {name}: the installed version is not the tested one. "
                "Install the versions that constraints.txt names.",
                details={"owner": owner, "name": name},
            )


def _has(owner: str, name: str) -> bool:
    try:
        return hasattr(_find(owner), name)
    except (ImportError, AttributeError):
        return False


def _find(owner: str) -> object:
    module, _, attribute = owner.partition(":")
    found: object = import_module(module)
    return getattr(found, attribute) if attribute else found


def _apply(patch: Patch) -> _Applied:
    if patch not in _APPLIED:
        owner = _find(patch.owner)
        original = vars(owner)[patch.name] if patch.name in vars(owner) else getattr(owner, patch.name)
        setattr(owner, patch.name, patch.replace(original))
        _APPLIED[patch] = _Applied(owner, original)
    return _APPLIED[patch]


def _release(patch: Patch) -> None:
    applied = _APPLIED[patch]
    applied.users -= 1
    if applied.users == 0:
        setattr(applied.owner, patch.name, applied.original)
        del _APPLIED[patch]
