"""No span leaves a gateway: what agents read and write is not exported, whatever the environment contains."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from openai import OpenAI

from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.support.process import GatewayProcess

OF_THE_SDK = """
from openhands.sdk import Agent, LocalConversation, Message, TextContent
from openhands.sdk.testing import TestLLM

llm = TestLLM.from_messages([Message(role="assistant", content=[TextContent(text="done")])])
conversation = LocalConversation(agent=Agent(llm=llm, tools=[]), workspace=".", visualizer=None)
conversation.send_message("go")
conversation.run()
conversation.close()
"""


@dataclass
class Collector:
    """An OTLP collector over HTTP, which takes everything."""

    url: str
    received: list[str] = field(default_factory=list)

    @property
    def variables(self) -> dict[str, str]:
        """What makes the SDK export to it."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{self.url}/v1/traces",
            "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20collector-secret-0123456789",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER": "otlp_http",
            "OTEL_ENDPOINT": self.url,
            "LMNR_PROJECT_API_KEY": "lmnr-secret-0123456789",
            "LMNR_BASE_URL": self.url,
            "LMNR_HTTP_PORT": self.url.rpartition(":")[2],
            "LMNR_FORCE_HTTP": "true",
        }


@contextmanager
def collecting() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            running.received.append(self.path)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        running = Collector(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield running
        finally:
            server.shutdown()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as one:
        yield one


def test_the_sdk_by_itself_exports_spans(collector: Collector, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", OF_THE_SDK],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path), **collector.variables},
        capture_output=True,
        check=True,
    )
    assert "/v1/traces" in collector.received


def test_a_gateway_that_is_served_exports_none_and_keeps_no_credential_for_it(collector: Collector, tmp_path: Path) -> None:
    with ScriptedLLM.in_thread() as llm:
        gateway = GatewayProcess(tmp_path, llm.base_url, environ=collector.variables)
        announced = gateway.start()
        assert gateway.process is not None
        environ = Path(f"/proc/{gateway.process.pid}/environ")
        inherited = environ.read_text() if os.access(environ, os.R_OK) else ""
        with OpenAI(base_url=announced["url"], api_key=announced["first_key"], max_retries=0) as client:
            answer = client.chat.completions.create(model="openhands_default", messages=[{"role": "user", "content": "Hi"}])
        gateway.process.terminate()  # leaving it, an exporter sends what it has kept
        assert gateway.wait() == 0
    assert answer.choices[0].message.content
    assert "collector-secret" not in inherited
    assert collector.received == []
