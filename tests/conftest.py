"""What every test may use."""

import gc
import os
import signal
import sys
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# LiteLLM otherwise fetches its price map from the network while it is imported, and a list of headers later.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", "True")
os.environ.setdefault("OPENHANDS_SUPPRESS_BANNER", "1")
# The SDK's import otherwise takes over everybody's loggers; the same as in a gateway (`agents.loading`).
os.environ.setdefault("LOG_AUTO_CONFIG", "false")
# A shell starts what it puts into the background with SIGINT ignored, and the programs that the tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# On a busy machine, how long an example takes says nothing.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Pause the garbage collector while all tests and what they import are loaded: half a million objects that stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked `linux` on other systems."""
    mark = item.get_closest_marker("linux")
    if mark is not None and sys.platform != "linux":
        pytest.skip(f"needs Linux: {', '.join(mark.args)}")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
