"""Import the SDK in the order, and with the switches, that make its import safe and fast. Takes seconds: call it in a thread.

OpenHands and LiteLLM read switches from the environment, some at import and some at each call. They also change other packages'
loggers. What stays of this depends on the process:

| | a process that belongs to the gateway | an application that mounts a gateway |
|---|---|---|
| switches of imports | stay set | are restored after the import |
| switches of calls | are set | are not set |
| variables that start a tracer | are restored after the import | are restored after the import |
| loggers that exist already | are restored, except for LiteLLM's filters that redact keys | likewise |
| the packages' own loggers | pass their records to the gateway's log | stay as the packages set them |

The filters stay because without them the application's log could contain a provider's key.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Final

from delegate_tool.sdk_import import LOCAL_PRICES, default_variables, import_litellm

_TOKENIZER_DIR: Final = "TIKTOKEN_CACHE_DIR"
"""LiteLLM sets it, to the folder of its own tokenizer."""
_SWITCHES: Final = {
    **LOCAL_PRICES,
    # LiteLLM otherwise fetches a list of Anthropic's headers at the first call of Claude, and blocks the event loop meanwhile.
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    # LiteLLM otherwise adds the variables of a file `.env`, if it finds one above its own files, to the environment.
    "LITELLM_MODE": "PRODUCTION",
    "OPENHANDS_SUPPRESS_BANNER": "1",
    # The SDK otherwise configures the process's loggers, and prints tracebacks with local variables, which may be keys.
    "LOG_AUTO_CONFIG": "false",
}
_SWITCHES_OF_CALLS: Final = {
    # Halves the CPU time of an LLM call: otherwise LiteLLM passes each list of messages to the openai package, which copies it.
    # This path loses content of some streams, so `answer_reading` parses streams before it.
    "EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER": "true",
}
_TRACING_VARIABLES: Final = (
    "LMNR_PROJECT_API_KEY",
    "OTEL_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
)
"""If one of these is set, importing the SDK starts a tracer, which exports what agents read and write."""


def load_agents_side(*, owns_process: bool = False) -> ModuleType:
    """Import `agents.assembly`, and thereby the SDK. A variable that the user has set is not changed.

    Args:
        owns_process: whether the process belongs to the gateway; see the table above.
    """
    if owns_process:
        for name, value in (_SWITCHES | _SWITCHES_OF_CALLS).items():
            os.environ.setdefault(name, value)
        # It warns at every run that the conversation is not persisted. The gateway stores conversations itself.
        logging.getLogger("openhands.sdk.conversation.state").setLevel(logging.ERROR)
    with _environment_of_imports(), _loggers_restored(owns_process=owns_process):
        import_litellm()
        assembly = import_module("a2a_gateway.agents.assembly")
        # Loads the local list into LiteLLM's cache while the switch is set.
        import_module("litellm.anthropic_beta_headers_manager").get_unsupported_headers("anthropic")
        if not owns_process:
            # This module sets `TIKTOKEN_CACHE_DIR` at its import, which would otherwise happen at the first LLM call.
            import_module("litellm.litellm_core_utils.default_encoding")
    return assembly


@contextmanager
def _environment_of_imports() -> Iterator[None]:
    changed = (*_TRACING_VARIABLES, _TOKENIZER_DIR)
    with default_variables(_SWITCHES):
        before = {name: os.environ[name] for name in changed if name in os.environ}
        for name in _TRACING_VARIABLES:
            os.environ.pop(name, None)
        try:
            yield
        finally:
            for name in changed:
                os.environ.pop(name, None)
            os.environ.update(before)


@contextmanager
def _loggers_restored(*, owns_process: bool) -> Iterator[None]:
    known = _all_loggers()
    before = [(one, one.level, one.propagate, one.disabled, tuple(one.handlers), tuple(one.filters)) for one in known]
    try:
        yield
    finally:
        for logger, level, propagate, disabled, handlers, filters in before:
            logger.setLevel(level)
            logger.propagate, logger.disabled = propagate, disabled
            logger.handlers[:] = handlers
            logger.filters[:] = [*filters, *(new for new in logger.filters if new not in filters and _redacts(new))]
        if owns_process:  # their handlers would write lines of another form, and with texts of users
            for logger in set(_all_loggers()) - set(known):
                logger.handlers.clear()
                logger.propagate = True


def _all_loggers() -> list[logging.Logger]:
    return [logging.getLogger(), *(one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger))]


def _redacts(log_filter: object) -> bool:
    return type(log_filter).__name__.endswith("RedactionFilter")
