"""How every LLM behaves, whatever its profile says: the gateway's retries, timeouts, streaming."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from openhands.sdk import Message, TextContent
from openhands.sdk.llm.exceptions import LLMServiceUnavailableError

from tests.agents.profiles.place import Place

GATEWAY: dict[str, Any] = {"llm_retries": 2, "llm_retry_wait_s": 0.0, "llm_timeout_s": 7.5}


def test_the_gateways_settings_win_over_a_saved_profiles(bare_place: Place) -> None:
    bare_place.save_llm("fast", num_retries=9, timeout=900, stream_idle_timeout=900, max_message_chars=100, log_completions=True)

    llm = bare_place.open(**GATEWAY).recipe("fast").llm

    wanted = {
        "usage_id": "agent",
        "stream": True,
        "num_retries": 3,
        "retry_multiplier": 0.0,
        "retry_min_wait": 0,
        "retry_max_wait": 0,
        "timeout": 8,
        "stream_idle_timeout": 7.5,
        "log_completions": False,
    }
    assert {name: getattr(llm, name) for name in wanted} == wanted
    assert llm.max_message_chars > 10**9


def test_the_condenser_is_accounted_for_by_itself_and_not_streamed(place: Place) -> None:
    recipe = place.open().recipe("default")

    assert recipe.condenser_llm is not None
    assert (recipe.condenser_llm.model, recipe.condenser_llm.usage_id, recipe.condenser_llm.stream) == (
        "openai/gpt-4o",
        "condenser",
        False,
    )
    assert recipe.condenser_llm.metrics is not recipe.llm.metrics


def test_a_failing_llm_is_asked_once_and_then_as_often_as_the_settings_say(bare_place: Place) -> None:
    with failing_llm() as (url, asked):
        environ = {"LLM_MODEL": "openai/gpt-4o", "LLM_API_KEY": "k", "LLM_BASE_URL": url}
        llm = bare_place.open(environ, **GATEWAY).recipe("default").llm

        with pytest.raises(LLMServiceUnavailableError):
            llm.completion([Message(role="user", content=[TextContent(text="hi")])])

    assert asked == ["/v1/chat/completions"] * 3


@contextmanager
def failing_llm() -> Iterator[tuple[str, list[str]]]:
    """Serve 503 to everyone; yields the base URL and the paths that were asked for."""
    asked: list[str] = []

    class Unavailable(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Keep the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Unavailable) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1", asked
        finally:
            server.shutdown()
            thread.join()
