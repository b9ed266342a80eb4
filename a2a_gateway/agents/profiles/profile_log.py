"""Log what is wrong with profiles, and which of their files were read again. Contents of files are not logged."""

from collections.abc import Collection, Mapping
from pathlib import Path

from a2a_gateway.runs.event_log import get_log
from a2a_gateway.runs.model import ProfileProblem

log = get_log(__name__)


def log_problems(problems: Collection[ProfileProblem]) -> None:
    """Log each fault of a profile: those that keep it from being served, and warnings."""
    for problem in problems:
        event = "profile_warning" if problem.is_warning else "profile_broken"
        log.warning(event, path=problem.path, line=problem.line, message=problem.message)


def log_reload(
    before: Mapping[Path, object],
    after: Mapping[Path, object],
    known: Collection[ProfileProblem],
    found: Collection[ProfileProblem],
) -> None:
    """Log that profiles were read again.

    Args:
        before: the files with their stamps at the last reading.
        known: the problems at the last reading, which are not logged again.
    """
    log.info(
        "profiles_reloaded",
        added=_names(after.keys() - before.keys()),
        changed=_names({path for path in after.keys() & before.keys() if after[path] != before[path]}),
        removed=_names(before.keys() - after.keys()),
        broken=_names({Path(problem.path) for problem in found if not problem.is_warning}),
    )
    log_problems([problem for problem in found if problem not in known])


def _names(paths: Collection[Path]) -> list[str]:
    return sorted(str(path) for path in paths)
