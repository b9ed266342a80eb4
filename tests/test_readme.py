"""Run the documents: each `bash` and `python` block of README and docs/ must end well.

A comment above a block states what it needs: `<!-- with: gateway -->` a running gateway in A2A_BASE_URL and A2A_API_KEY,
`<!-- not run: reason -->` more than a test has. A block without a comment runs in an empty directory. A block that stands on
several pages runs once.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.gateway import GatewayUnderTest, scripted_gateway
from tests.support.pages import DOCUMENTS, ROOT, name_of

_BLOCK = re.compile(r"(?:<!-- (?P<need>[^>]*) -->\n)?```(?P<language>bash|python)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Snippet:
    place: str = field(compare=False)
    language: str
    code: str
    need: str


def snippets() -> list[Snippet]:
    return [
        Snippet(
            f"{name_of(page)} line {text[: found.start('code')].count('\n')}",
            found["language"],
            found["code"],
            found["need"] or "",
        )
        for page in DOCUMENTS
        for text in [page.read_text()]
        for found in _BLOCK.finditer(text)
    ]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayUnderTest]:
    with scripted_gateway(tmp_path_factory.mktemp("gateway")) as (gateway, _):
        yield gateway


@pytest.mark.parametrize(
    "snippet",
    [snippet for snippet in dict.fromkeys(snippets()) if not snippet.need.startswith("not run: ")],
    ids=lambda snippet: snippet.place,
)
def test_a_snippet_of_the_documents_works(snippet: Snippet, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    environ = dict(os.environ)
    # The commands of this environment, and the packages of this checkout.
    environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", "")])
    environ["PYTHONPATH"] = str(ROOT)
    if snippet.need == "with: gateway":
        gateway: GatewayUnderTest = request.getfixturevalue("gateway")
        environ |= {"A2A_BASE_URL": gateway.base_url, "A2A_API_KEY": gateway.key}
    command = ["bash", "-euo", "pipefail", "-c"] if snippet.language == "bash" else [sys.executable, "-c"]
    done = subprocess.run([*command, snippet.code], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_every_comment_above_a_snippet_is_one_that_is_understood() -> None:
    assert [s for s in snippets() if s.need not in ("", "with: gateway") and not s.need.startswith("not run: ")] == []


def test_readme_has_a_snippet_that_needs_a_gateway_and_docs_have_more() -> None:
    places = {snippet.place.split()[0] for snippet in snippets() if snippet.need == "with: gateway"}
    assert {"README.md", "docs/getting-started.md", "docs/python-api.md"} <= places
