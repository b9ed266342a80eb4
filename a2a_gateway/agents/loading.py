"""Import the SDK: seconds of imports, in the order and with the switches that make them safe and fast. Call it in a thread.

OpenHands and LiteLLM read their switches from the environment, some while they are imported, some at each call, and set up other
packages' loggers. A process that is a gateway's own keeps all that. In any other process environment and loggers are restored
after the import, so that an application that mounts a gateway finds what it left there. Only LiteLLM's filters that redact keys
stay on loggers: without them the application's log could show a provider's key.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from types import ModuleType
from typing import Final

_TOKENIZER_DIR: Final = "TIKTOKEN_CACHE_DIR"
"""Set by LiteLLM."""
_SWITCHES: Final = {
    # LiteLLM otherwise fetches its price map from the network, in a thread, while its modules load: the import crashed from it.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    # It fetches a list of Anthropic's headers likewise, while the first call of Claude waits, and with it the event loop.
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    # LiteLLM otherwise adds the variables of a file `.env` that it finds above its own to the environment.
    "LITELLM_MODE": "PRODUCTION",
    "OPENHANDS_SUPPRESS_BANNER": "1",
    # The SDK would take over the process's loggers, and print tracebacks with local variables, keys among them.
    "LOG_AUTO_CONFIG": "false",
}
_SWITCHES_OF_CALLS: Final = {
    # Halves the CPU of an LLM call: without it, LiteLLM hands each message list to the openai package, which walks through it.
    # What its reader of streams would lose, `answer_reading` reads before it.
    "EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER": "true",
}
_TRACING_VARIABLES: Final = (
    "LMNR_PROJECT_API_KEY",
    "OTEL_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
)
"""With one of these set, importing the SDK starts a tracer that exports what agents read and write."""


def load_agents_side(*, owns_process: bool = False) -> ModuleType:
    """Import `agents.assembly`, and so the SDK; the second call costs nothing. What the user has set stays set.

    Args:
        owns_process: whether the process is a gateway's own, so that switches and the level of one noisy logger stay set.
    """
    if owns_process:
        for name, value in (_SWITCHES | _SWITCHES_OF_CALLS).items():
            os.environ.setdefault(name, value)
        # It warns at every run that nothing is persisted; what continues a conversation is kept here.
        logging.getLogger("openhands.sdk.conversation.state").setLevel(logging.ERROR)
    with _environment_of_imports(), nullcontext() if owns_process else _loggers_restored():
        # LiteLLM 1.105 imports itself in a circle through this module when it is not loaded first (seen on a loaded machine).
        import_module("litellm.rust_bridge.catalog")
        assembly = import_module("a2a_gateway.agents.assembly")
        # Loads the local list, which is cached, while the switch is set: for agents that use Claude.
        import_module("litellm.anthropic_beta_headers_manager").get_unsupported_headers("anthropic")
        if not owns_process:
            # LiteLLM's tokenizer sets a variable when it is imported, which would otherwise be at the first call of an LLM.
            import_module("litellm.litellm_core_utils.default_encoding")
    return assembly


@contextmanager
def _environment_of_imports() -> Iterator[None]:
    before = dict(os.environ)
    for name, value in _SWITCHES.items():
        os.environ.setdefault(name, value)
    for name in _TRACING_VARIABLES:
        os.environ.pop(name, None)
    try:
        yield
    finally:
        for name in (*_SWITCHES, *_TRACING_VARIABLES, _TOKENIZER_DIR):
            if name in before:
                os.environ[name] = before[name]
            else:
                os.environ.pop(name, None)


@contextmanager
def _loggers_restored() -> Iterator[None]:
    known = [logging.getLogger(), *(one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger))]
    before = [(one, one.level, one.propagate, one.disabled, tuple(one.handlers), tuple(one.filters)) for one in known]
    try:
        yield
    finally:
        for logger, level, propagate, disabled, handlers, filters in before:
            logger.setLevel(level)
            logger.propagate, logger.disabled = propagate, disabled
            logger.handlers[:] = handlers
            logger.filters[:] = [*filters, *(new for new in logger.filters if new not in filters and _redacts(new))]


def _redacts(log_filter: object) -> bool:
    return type(log_filter).__name__.endswith("RedactionFilter")
