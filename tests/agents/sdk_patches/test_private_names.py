"""Private names of other packages: each stands in the inventory, and is there in the installed version."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from a2a_gateway.agents.sdk_patches import private_names
from a2a_gateway.agents.sdk_patches.private_names import PRIVATE_NAMES

ROOT = Path(__file__).parents[3]
FILES = sorted(
    path
    for package in ("a2a_gateway", "delegate_tool")
    for path in (ROOT / package).rglob("*.py")
    if path != Path(private_names.__file__) and "migrations" not in path.parts
)
PRIVATE = re.compile(r"_[A-Za-z]\w*")
DOCUMENTED = {"_exit", "_asdict", "_mapping", "_record", "_from_structlog", "_logger", "_name"}
"""Public in spite of their names: `os._exit`, `namedtuple._asdict`, `sqlalchemy.Row._mapping`, and what structlog's
`ProcessorFormatter` exchanges with records and processors."""
TEXTS = {"_API_KEY", "_above_", "_cost", "_details"}
"""Strings that are no names: parts of variables and of price keys."""
OWN = ("a2a_gateway", "delegate_tool")


def names_of(path: Path) -> tuple[set[str], set[str]]:
    """The private names that a file defines, and those that it uses: attributes, imports, and strings that look like one."""
    defined, used = set[str](), set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                defined.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                defined.add(name)
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                defined.add(name)
            case ast.Attribute(attr=name):
                used.add(name)
            case ast.alias(name=name):
                used.update(name.split("."))
            case ast.Constant(value=str(text)) if re.fullmatch(r"[\w.:]+", text):
                used.update(re.split(r"[.:]", text))
    return defined, {name for name in used if PRIVATE.fullmatch(name)}


def inherited_names() -> Iterator[str]:
    """The private names that classes of the project override, or set, in a base of another package."""
    for path in FILES:
        if not re.search(r"^class \w+\(", path.read_text(), re.MULTILINE):
            continue  # it has nothing to inherit, and may be a program that reads its arguments when it is imported
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        classes = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
        for own in classes:
            foreign = [base for base in own.__mro__[1:] if base.__module__.partition(".")[0] in OTHERS]
            mentioned = set(re.findall(r"\bself\.(_[a-z]\w*)", source(own))) | {name for name in vars(own) if is_private(name)}
            yield from (name for name in mentioned if any(has(base, name) for base in foreign))


OTHERS = {"openhands", "litellm", "httpx", "openai", "uvicorn", "starlette", "fastapi", "tenacity", "aiohttp"}


def is_private(name: str) -> bool:
    return PRIVATE.fullmatch(name) is not None and name != "_abc_impl"


@cache
def source(owner: type) -> str:
    """The text of a class's methods; what was generated has none."""
    texts = []
    for method in vars(owner).values():
        if inspect.isfunction(method):
            with suppress(OSError):
                texts.append(inspect.getsource(method))
    return "".join(texts)


def has(owner: Any, name: str) -> bool:
    """Whether a module or a class has a name, be it one that its instances are given."""
    if isinstance(owner, ModuleType):
        return hasattr(owner, name)
    declared = hasattr(owner, name) or name in getattr(owner, "__private_attributes__", ())
    return declared or re.search(rf"\bself\.{name}\b\s*(:[^=\n]+)?=", source(owner)) is not None


def find(owner: str) -> Any:
    module, _, attribute = owner.partition(":")
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner, names in PRIVATE_NAMES.items() for name in names])
def test_each_private_name_is_there_in_the_installed_version(owner: str, name: str) -> None:
    found = find(owner)
    bases = [found] if isinstance(found, ModuleType) else [base for base in found.__mro__ if base is not object]
    assert any(has(each, name) for each in bases)


def test_the_inventory_names_all_private_names_that_are_used_and_no_others() -> None:
    used = set(inherited_names())
    for path in FILES:
        defined, mentioned = names_of(path)
        used |= mentioned - defined
    listed = {name for names in PRIVATE_NAMES.values() for name in names}
    assert used - DOCUMENTED - TEXTS == listed
