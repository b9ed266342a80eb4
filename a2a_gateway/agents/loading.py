"""Loads the SDK: seconds of imports, in the order and with the switches that make them safe and fast. Call it in a thread."""

import logging
import os
from importlib import import_module
from types import ModuleType
from typing import Final

_SWITCHES: Final = {
    # LiteLLM otherwise fetches its price map from the network, in a thread, while its modules load: the import crashed from it.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    # It fetches a list of Anthropic's headers likewise, while the first call of Claude waits, and with it the event loop.
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    # Halves the CPU of an LLM call: without it, LiteLLM hands each message list to the openai package, which walks through it.
    # What its reader of streams would lose, `answer_reading` reads before it.
    "EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER": "true",
    "OPENHANDS_SUPPRESS_BANNER": "1",
    # The SDK would take over the process's loggers, and print tracebacks with local variables, keys among them.
    "LOG_AUTO_CONFIG": "false",
}


def load_agents_side() -> ModuleType:
    """Import `agents.assembly`, and so the SDK; the second call costs nothing. What the user has set stays set."""
    for name, value in _SWITCHES.items():
        os.environ.setdefault(name, value)
    # LiteLLM 1.105 imports itself in a circle through this module when it is not loaded first (seen on a loaded machine).
    import_module("litellm.rust_bridge.catalog")
    # It warns at every run that nothing is persisted; what continues a conversation is kept here.
    logging.getLogger("openhands.sdk.conversation.state").setLevel(logging.ERROR)
    return import_module("a2a_gateway.agents.assembly")
