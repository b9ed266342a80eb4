"""What `import a2a_gateway` gives, and what it costs."""

import subprocess
import sys

import a2a_gateway


def test_the_public_names_are_these() -> None:
    assert a2a_gateway.__all__ == ["Gateway", "GatewayError", "Settings", "create_app", "create_router", "load_settings"]


def test_every_public_name_can_be_imported() -> None:
    assert [getattr(a2a_gateway, name).__name__ for name in a2a_gateway.__all__] == a2a_gateway.__all__


def test_importing_the_package_does_no_work() -> None:
    heavy = {"fastapi", "openhands", "litellm", "sqlalchemy", "pydantic", "openai"}
    program = f"import sys, a2a_gateway; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
