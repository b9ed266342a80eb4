"""What `import delegate_tool` gives, and what it costs."""

import inspect
import subprocess
import sys
from dataclasses import fields

import delegate_tool
from delegate_tool import DelegationResult, DelegationTool, adelegate, delegate
from tests.support.pages import ROOT, codes_in, section_of, tables_of


def test_the_public_names_are_these() -> None:
    assert delegate_tool.__all__ == [
        "BoundClient",
        "DelegationBinding",
        "DelegationContext",
        "DelegationError",
        "DelegationResult",
        "DelegationStatus",
        "DelegationTool",
        "adelegate",
        "delegate",
        "register",
        "use_binding",
    ]


def test_every_public_name_can_be_imported() -> None:
    assert [getattr(delegate_tool, name).__name__ for name in delegate_tool.__all__] == delegate_tool.__all__


def test_importing_the_package_loads_neither_openai_nor_the_sdk() -> None:
    program = (
        "import sys, delegate_tool; print(sorted({'openai', 'openhands', 'litellm', 'httpx', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def options_of(function: object) -> set[str]:
    """Return the names of the parameters that are passed by name."""
    assert callable(function)
    return {name for name, each in inspect.signature(function).parameters.items() if each.kind is each.KEYWORD_ONLY}


def test_the_python_page_lists_every_parameter_and_only_attributes_that_exist() -> None:
    page = (ROOT / "docs" / "python-api.md").read_text()
    limits, others, attributes = (
        {name for row in table for name in codes_in(row[0])} for table in tables_of(section_of(page, "Delegate from a script"))
    )
    assert (limits | others) - {"adelegate"} == options_of(adelegate) - {"base_url", "api_key"}
    assert options_of(adelegate) - options_of(delegate) == {"client"}
    assert attributes <= {*dir(DelegationResult), *(each.name for each in fields(DelegationResult))}
    (parameters,) = tables_of(section_of(page, "Delegate from an OpenHands agent of your own"))
    listed = {name for row in parameters for name in codes_in(row[0])}
    assert listed == options_of(DelegationTool.create) - {"withholdable"}
    assert listed <= {*codes_in(delegate_tool.register.__doc__ or "")}
