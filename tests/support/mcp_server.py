"""A small MCP server on standard input and output, with the standard library only, so that it starts at once.

Arguments: a file to which it writes its process id, then what it does: `serve` (the default), `hang` (it answers nothing), `die`
(it exits at the first call of a tool), `flood` (it returns a megabyte), `grow` (after the first call it also offers `extra`),
`stay` (it answers no call, and ignores the end of its input and SIGTERM). Its tools are the comma-separated names in `TOOLS`;
each returns its name and the value of `TOKEN`.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

_TOOLS = [name for name in os.environ.get("TOOLS", "lookup").split(",") if name]


def main(pid_file: str, behaviour: str = "serve") -> None:
    Path(pid_file).write_text(str(os.getpid()))
    if behaviour == "hang":
        signal.pause()
    if behaviour == "stay":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for line in sys.stdin:
        request = json.loads(line)
        if "id" not in request:
            continue
        if request["method"] == "tools/call" and behaviour == "die":
            sys.exit("out of memory")
        if request["method"] == "tools/call" and behaviour == "stay":
            Path(pid_file).with_suffix(".called").touch()
            signal.pause()
        _send(id=request["id"], result=_result(request, "x" * 10**6 if behaviour == "flood" else ""))
        if request["method"] == "tools/call" and behaviour == "grow":
            _TOOLS.append("extra")
            _send(method="notifications/tools/list_changed")


def _result(request: dict[str, Any], more: str) -> dict[str, Any]:
    match request["method"]:
        case "initialize":
            version = request["params"]["protocolVersion"]
            info = {"name": "test", "version": "1"}
            return {"protocolVersion": version, "capabilities": {"tools": {"listChanged": True}}, "serverInfo": info}
        case "tools/list":
            return {"tools": [{"name": name, "description": f"Tool {name}.", "inputSchema": _SCHEMA} for name in _TOOLS]}
        case "tools/call":
            text = f"{request['params']['name']} with {os.environ.get('TOKEN')}{more}"
            return {"content": [{"type": "text", "text": text}], "isError": False}
        case _:
            return {}


def _send(**message: Any) -> None:
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


_SCHEMA = {"type": "object", "properties": {"key": {"type": "string"}}}

if __name__ == "__main__":
    main(*sys.argv[1:])
