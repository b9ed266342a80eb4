"""An application that mounts a gateway, and looks at its own process. Run by `test_guest.py`.

Usage: `python guest_host.py HOME sdk|bare`. An application `sdk` has imported LiteLLM and OpenHands itself; `bare` has not.
Prints one line of JSON: what had changed since before the gateway was entered, `inside` while agents run and `after` it was left,
and the `answer` of a tree of agents.
"""

import asyncio
import gc
import json
import logging
import os
import signal
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import structlog
from fastapi import FastAPI

from a2a_gateway import Gateway, Settings, create_router
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from a2a_gateway.testing.serving import serve_app
from tests.support.ask import direct
from tests.support.gateway import scripted_environ

LIBRARIES = ("litellm", "openhands", "httpx", "openai", "fastmcp", "mcp", "lmnr")
REDACTION = ("SecretRedactionFilter", "AccessLogRedactionFilter")
"""LiteLLM's, which keep a provider's key out of logs; they stay."""
LEVELS = 3
"""Of delegation, on a default executor of one thread."""
AGENT = "---\nname: nested\ntools: [delegate]\n---\nDelegate.\n"


def snapshot(loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
    """Record what belongs to the process, by a name for each thing."""
    loggers = {"root": logging.getLogger(), **logging.root.manager.loggerDict}
    return {
        "default executor": id(getattr(loop, "_default_executor", None)),
        "exception handler": loop.get_exception_handler(),
        "task factory": loop.get_task_factory(),
        "gc": (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count(), gc.get_debug(), len(gc.callbacks)),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook, warnings.showwarning),
        "limits": (sys.getrecursionlimit(), sys.getswitchinterval(), Path.cwd()),
        "structlog": (structlog.is_configured(), str(structlog.get_config())),
        **{f"environment {name}": value for name, value in os.environ.items()},
        **{f"logger {name}": _state(one) for name, one in loggers.items() if isinstance(one, logging.Logger)},
        **_globals(),
    }


def _state(logger: logging.Logger) -> tuple[object, ...]:
    filters = [each for each in logger.filters if type(each).__name__ not in REDACTION]
    return logger.level, tuple(logger.handlers), tuple(filters), logger.propagate, logger.disabled


def _globals() -> dict[str, Any]:
    """Record functions, methods and plain settings of the libraries, without caches, which are filled by use."""
    found: dict[str, Any] = {}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in LIBRARIES:
            for attribute, value in list(vars(module).items()):
                if isinstance(value, type) and value.__module__ == name:
                    found |= {f"{name}:{attribute}.{key}": id(item) for key, item in vars(value).items() if callable(item)}
                elif callable(value) or attribute == "_SECRET_RE":
                    found[f"{name}.{attribute}"] = id(value)
                elif not attribute.startswith("_") and isinstance(value, bool | int | float | str):
                    found[f"{name}.{attribute}"] = value
    return found


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Name what differs. What libraries add when they are imported is not the process's as it was."""
    added = {name for name in now.keys() - before.keys() if name.startswith("environment ")}
    return sorted({name for name in before if now.get(name, "gone") != before[name]} | added)


async def answer(url: str, gateway: Gateway) -> str:
    engine = await gateway.engine()
    _, key = await engine.store.keys.create_key("mine")
    async with httpx.AsyncClient(base_url=url, timeout=60, headers={"authorization": f"Bearer {key}"}) as http:
        asked = {"model": "openhands_nested", "messages": [{"role": "user", "content": f"nest {LEVELS}"}]}
        completion = (await http.post("/v1/chat/completions", json=asked)).raise_for_status().json()
    return str(completion["choices"][0]["message"]["content"])


async def main(home: Path) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    profiles = home / "profiles"
    profiles.mkdir()
    (profiles / "nested.md").write_text(AGENT)
    settings = Settings(
        data_dir=home / "data",
        profiles=(profiles,),
        shell_pool_size=0,
        max_depth=LEVELS,
        unpriced_usd_per_mtok=Decimal(0),
    )
    async with ScriptedLLM(direct=direct) as llm:
        before = snapshot(loop)
        async with Gateway(settings, scripted_environ(llm.base_url, OH_PERSISTENCE_DIR=str(home / "openhands"))) as gateway:
            app = FastAPI()
            app.include_router(create_router(gateway))
            async with serve_app(app) as url:
                said = await answer(url, gateway)
                inside = changes(before, snapshot(loop))
        after = changes(before, snapshot(loop))
    print(json.dumps({"inside": inside, "after": after, "answer": said}))


if __name__ == "__main__":
    if sys.argv[2] == "sdk":
        import litellm.rust_bridge.catalog  # noqa: F401  # first, see `agents.loading`
        import openhands.sdk
        import openhands.tools  # noqa: F401

        import_module("litellm.llms.ollama.common_utils")  # LiteLLM itself imports it when it is needed
    asyncio.run(main(Path(sys.argv[1])))
