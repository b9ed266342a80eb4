"""What every test may use."""

import os

import pytest

# LiteLLM otherwise fetches its price map from the network while it is imported.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("OPENHANDS_SUPPRESS_BANNER", "1")
# The SDK's import otherwise takes over everybody's loggers; the same as in a gateway (`agents.loading`).
os.environ.setdefault("LOG_AUTO_CONFIG", "false")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
