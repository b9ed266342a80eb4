"""`a2a-gateway serve`: run a gateway in this process until Ctrl-C."""

import json
import shlex
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from a2a_gateway.cli.options import ConfigOption, DataDirOption, ProfilesOption, read_settings
from a2a_gateway.cli.screen import note, show

if TYPE_CHECKING:
    from a2a_gateway.server.uvicorn_server import Announcement


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; default 127.0.0.1, this machine only.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; default 8420, 0 takes a free one.", min=0, max=65535)] = None,
    data_dir: DataDirOption = None,
    profiles: ProfilesOption = None,
    config: ConfigOption = None,
    json_output: Annotated[bool, typer.Option("--json", help="Announce the start as one line of JSON.")] = False,
) -> None:
    """Serve agents until Ctrl-C, which cancels the runs under way."""
    settings = read_settings(config, host=host, port=port, data_dir=data_dir, profiles=profiles)
    if sys.stderr.isatty():  # elsewhere standard error is the log alone, which begins with `gateway_starting`
        note("Loading OpenHands…")  # no spinner: it would share the terminal with the log
    from a2a_gateway.server.process import serve as serve_gateway

    announce = _announce_json if json_output else _announce
    serve_gateway(settings, may_show_key=sys.stdout.isatty(), on_ready=announce)


def _announce_json(ready: "Announcement") -> None:
    print(json.dumps(asdict(ready)), flush=True)


def _announce(ready: "Announcement") -> None:
    for problem in ready.problems:
        show(f"Problem: {problem}")
    show(f"Serving at {ready.url}")
    show(f"Models: {', '.join(ready.models) or 'none: add an LLM to [[llms]] in gateway.toml, or set LLM_MODEL and LLM_API_KEY'}")
    if ready.first_key is not None:
        show(f"Key: {ready.first_key}")
        show("It is printed only this once. To use it in a shell, also for `a2a-gateway ask`: export A2A_API_KEY=<key>")
    if ready.first_key_file is not None:
        file = shlex.quote(ready.first_key_file)
        show(f"Key: in {file}, which only you and the agents can read. Take it from there, once:")
        show(f'export A2A_API_KEY="$(cat {file})" && rm {file}')
    if ready.models:
        show(f"\nTry it{'' if ready.first_key else ', with your key in A2A_API_KEY'}:\n{_curl_line(ready)}\n")
    show("Ctrl-C ends it.")


def _curl_line(ready: "Announcement") -> str:
    body = {"model": ready.models[0], "stream": True, "messages": [{"role": "user", "content": "Hello!"}]}
    key = ready.first_key or "$A2A_API_KEY"
    url = shlex.quote(f"{ready.url}/chat/completions")
    return (
        f'curl -N {url} -H "Authorization: Bearer {key}" -H "Content-Type: application/json" -d {shlex.quote(json.dumps(body))}'
    )
