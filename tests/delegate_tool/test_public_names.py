"""What `import delegate_tool` gives, and what it costs."""

import subprocess
import sys

import delegate_tool


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
