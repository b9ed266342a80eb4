"""No span leaves a gateway: what agents read and write is not exported, whatever the environment contains."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.support.collector import Collector, collecting
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
        gateway.process.send_signal(signal.SIGTERM)  # leaving it, an exporter sends what it has kept
        assert gateway.wait() == 0
    assert answer.choices[0].message.content
    assert "collector-secret" not in inherited
    assert collector.received == []
