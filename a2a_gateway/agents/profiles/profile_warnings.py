"""Report what is legal in a profile but may surprise its author: other profiles, directories, the key of its LLM."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from a2a_gateway.agents.profiles.definition_errors import Document, Fault
from a2a_gateway.agents.profiles.llm_resolver import missing_key
from a2a_gateway.agents.profiles.recipe_builder import Entry
from a2a_gateway.agents.recipe import AgentRecipe
from a2a_gateway.runs.model import Profile, ProfileProblem
from delegate_tool.protocol.text import did_you_mean
from delegate_tool.protocol.values import MODEL_PREFIX

_ALLOWED: Final = ("a2a", "allowed_agents")


def profile_warnings(found: Sequence[Entry]) -> Iterator[ProfileProblem]:
    """Yield the warnings about all definitions. Of those with the same name, the first is the one that counts."""
    by_name: dict[str, Entry] = {}
    for entry in found:
        first = by_name.setdefault(entry.name, entry)
        if first is not entry and first.recipe is None and entry.recipe is not None:
            message = f"the working definition of {entry.name!r} in {entry.recipe.profile.source} is hidden by this broken one"
            yield from _document_of(first).warnings([Fault(message, ("name",))])
    served = [(entry, entry.recipe) for entry in by_name.values() if entry.recipe is not None]
    for entry, recipe in served:
        yield from _document_of(entry).warnings(_faults(recipe, by_name))
    # Many profiles inherit one LLM, which is reported once, as that of the environment if it is.
    reported: set[str] = set()
    for entry, recipe in sorted(served, key=lambda each: each[0].document is not None):
        key = missing_key(recipe.llm, is_local=recipe.is_local)
        if key is not None and recipe.llm.model not in reported:
            reported.add(recipe.llm.model)
            remedy = f"set {key}, or LLM_API_KEY if LLM_MODEL is of the same provider"
            yield from _document_of(entry).warnings([Fault(f"{recipe.llm.model} has no API key: {remedy}", ("model",))])


def _document_of(entry: Entry) -> Document:
    if entry.document is not None:
        return entry.document
    return Document(Path(entry.recipe.profile.source if entry.recipe else entry.problems[0].path), "")


def _faults(recipe: AgentRecipe, by_name: Mapping[str, Entry]) -> Iterator[Fault]:
    yield from _faults_of_callees(recipe.profile, by_name)
    directory = recipe.profile.workspace_path
    if directory is not None and not Path(directory).is_dir():
        yield Fault(f"the workspace {directory} does not exist; the first run makes an empty one", ("a2a", "workspace"))


def _faults_of_callees(profile: Profile, by_name: Mapping[str, Entry]) -> Iterator[Fault]:
    allowed = profile.policy.allowed_agents
    if allowed is None:
        if profile.may_delegate and profile.policy.max_depth == 0:
            yield Fault("its tool delegate is of no use: max_depth is 0", ("a2a", "max_depth"))
        return
    own = {model.removeprefix(MODEL_PREFIX) for model in allowed if model.startswith(MODEL_PREFIX)}  # a peer's may come later
    for name in sorted(own - by_name.keys()):
        yield Fault(f"there is no agent {name[:60]!r}, which it may call{did_you_mean(name, by_name)}", _ALLOWED)
    if profile.may_delegate and not allowed:
        yield Fault("its tool delegate is of no use: allowed_agents is empty", _ALLOWED)
