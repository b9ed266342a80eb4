"""`a2a-gateway demo`: four agents at work on one task, on this machine, without a key.

Everything but the LLM's words is real: the gateway, the agents, their tools, the delegations over HTTP, the limits, the costs.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from stat import S_ISREG
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table

import a2a_gateway
from a2a_gateway.cli.command_error import EXIT_USAGE, CommandError
from a2a_gateway.cli.gateway_process import own_gateway
from a2a_gateway.cli.options import JsonOption
from a2a_gateway.cli.runs import draw_tree
from a2a_gateway.cli.screen import note, show, show_json, show_spinner, table
from a2a_gateway.cli.streamed_answer import Display, StreamedAnswer, stream_answer

if TYPE_CHECKING:
    from a2a_gateway.cli.gateway_client import RemoteGateway
    from a2a_gateway.cli.gateway_responses import ListedRun

_LEAD: Final = "openhands_lead"
_PRICED_AS: Final = "openai/gpt-4o-mini"
"""The name under which the scripted LLM is called, so that its tokens have a price."""


def demo(
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Copy the files that the agents made to this new directory.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Let a lead agent delegate to specialists and back, on a scripted LLM, or on LLM_MODEL if that is set."""
    from a2a_gateway.testing.demo import DEMO_TASK

    report = partial(show, stderr=json_output)  # with --json standard output has one object alone
    with _make_directory(keep), TemporaryDirectory(prefix="a2a-demo-") as scratch, _llm(report) as environ:
        data_dir = Path(scratch)
        with _gateway(data_dir, {**environ, "OH_PERSISTENCE_DIR": str(data_dir / "openhands")}, report) as gateway:
            report(f"Task for {_LEAD}: {DEMO_TASK}\n")
            answer = stream_answer(gateway, _LEAD, DEMO_TASK, {}, Display(text=not json_output))
            if answer.error is not None:
                raise answer.error
            report("\nThe files that the agents' tools made in their shared workspace:\n")
            workspace = _workspace(data_dir, answer)
            files = _list_files(workspace)
            report(_as_table(files))
            if keep is not None:
                shutil.copytree(workspace, keep, symlinks=True, dirs_exist_ok=True)
            report("\nThe tree of runs, with each run's own tokens (read + written) and cost:\n")
            tree = gateway.tree(answer.run_id)
            report(draw_tree(tree))
            refusal = _try_too_deep(gateway, tree)
            report(f"\nA call at depth {tree.limits.max_depth + 1} is refused ({refusal.code}): {refusal.message}")
    note(f"\n{'Copied to ' + str(keep) if keep else 'The files are removed again; --keep DIR keeps them'}.")
    if json_output:
        refused = {"code": refusal.code, "message": refusal.message}
        run = tree.model_dump(mode="json")
        show_json({"answer": answer.text, "files": files, "kept": keep and str(keep), "run": run, "refused": refused})


@contextmanager
def _make_directory(keep: Path | None) -> Iterator[None]:
    """Make the directory before the agents run, so that a failure costs nothing."""
    if keep is None:
        yield
        return
    try:
        keep.mkdir(parents=True)
    except FileExistsError:
        raise CommandError(f"{keep} exists already.", "Name a directory that does not exist.", exit_code=EXIT_USAGE) from None
    except OSError as error:
        raise CommandError(
            f"{keep} cannot be created: {error.strerror}.", "Name another directory.", exit_code=EXIT_USAGE
        ) from None
    try:
        yield
    except BaseException:
        with suppress(OSError):
            keep.rmdir()
        raise


@contextmanager
def _gateway(data_dir: Path, environ: Mapping[str, str], report: Callable[[str], None]) -> "Iterator[RemoteGateway]":
    from a2a_gateway.cli.gateway_client import RemoteGateway

    data_dir.joinpath("gateway").mkdir(mode=0o700)
    profiles = Path(a2a_gateway.__file__).parent / "demo_profiles"
    with ExitStack() as stack:
        with show_spinner("Starting a gateway"):
            started = stack.enter_context(own_gateway(data_dir / "gateway", profiles, environ))
        report(f"A gateway serves {', '.join(started.models)} at {started.url}.\n")
        yield stack.enter_context(RemoteGateway(started.url, started.key))


def _try_too_deep(gateway: "RemoteGateway", tree: "ListedRun") -> CommandError:
    """Call an agent at a greater depth than the lead allows, and return the gateway's refusal."""
    from delegate_tool.protocol.context import DelegationContext, encode_headers

    max_depth = tree.limits.max_depth
    headers = encode_headers(DelegationContext(depth=max_depth + 1))
    error = stream_answer(gateway, _LEAD, "Go deeper.", headers, Display(text=False, status=False)).error
    if error is not None:
        return error
    raise CommandError(f"The gateway accepted a call at depth {max_depth + 1}, although the greatest depth is {max_depth}.")


@contextmanager
def _llm(report: Callable[[str], None]) -> Iterator[Mapping[str, str]]:
    """Yield OpenHands' variables for the LLM: the user's own, or a scripted one that lives as long as the context."""
    model = os.environ.get("LLM_MODEL", "").strip()
    if model:
        report(f"The agents run on {model}, because LLM_MODEL names it: this costs money.")
        yield {}
        return
    from a2a_gateway.testing.demo import direct_demo
    from a2a_gateway.testing.scripted_llm import ScriptedLLM

    report(
        "The LLM is scripted: its words are written in advance, and priced as if they came from gpt-4o-mini.\n"
        "All else is real: agents, tools, files, delegations, limits. With LLM_MODEL and LLM_API_KEY set, a real LLM is used."
    )
    with ScriptedLLM.in_thread(direct=direct_demo, token_ms=8) as llm:
        yield {"LLM_MODEL": _PRICED_AS, "LLM_BASE_URL": llm.base_url, "LLM_API_KEY": "scripted"}


def _workspace(data_dir: Path, answer: StreamedAnswer) -> Path:
    found = list(data_dir.glob(f"gateway/workspaces/{answer.conversation_id}-*"))
    if len(found) != 1:
        raise CommandError("The workspace of the run is missing.")
    return found[0]


def _list_files(workspace: Path) -> dict[str, int]:
    """Return the sizes of the files, by their paths in the workspace."""
    sizes = {}
    for path in sorted(workspace.rglob("*")):
        # Links are not followed: a file of an agent may be a link to any place.
        status = path.lstat()
        if S_ISREG(status.st_mode) and "__pycache__" not in path.parts:
            sizes[str(path.relative_to(workspace))] = status.st_size
    return sizes


def _as_table(sizes: Mapping[str, int]) -> Table:
    listed = table("file", "bytes", right=("bytes",), wraps=("file",))
    for path, size in sizes.items():
        listed.add_row(path, f"{size:,}")
    return listed
