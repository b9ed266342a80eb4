"""Import the OpenHands SDK so that the import cannot crash. Used by the tool and by the gateway; standard library only.

While LiteLLM's modules load, LiteLLM fetches its price map from the network in a thread, which imports modules, too. At times the
two imports deadlock, and Python ends one of them with an error, most often where the network is slow or missing.
"""

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Final

LOCAL_PRICES: Final = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
"""Makes LiteLLM use the price map that it ships. The import alone needs it."""

_LOCK: Final = threading.RLock()
"""The environment belongs to the process, and several threads may import."""


def import_sdk() -> None:
    """Import the SDK, which takes seconds. A price map that the user has chosen in the environment is respected."""
    if "openhands.sdk" in sys.modules:
        return
    with default_variables(LOCAL_PRICES):
        import_litellm()
        import_module("openhands.sdk")


def import_litellm() -> None:
    """Import LiteLLM by this module first: its circular import has failed on a loaded machine where another one came first."""
    import_module("litellm.rust_bridge.catalog")


@contextmanager
def default_variables(defaults: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment while the context lasts, unless the user has set them. Only one thread can be in it."""
    with _LOCK:
        missing = [name for name in defaults if name not in os.environ]
        os.environ.update({name: defaults[name] for name in missing})
        try:
            yield
        finally:
            for name in missing:
                os.environ.pop(name, None)
