"""Tables and blocks on terminals of any width: what identifies and what counts is never broken over lines."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from rich.console import Console, RenderableType

from a2a_gateway.cli.gateway_responses import ListedRun
from a2a_gateway.cli.listing import Block
from a2a_gateway.cli.runs import draw_tree
from a2a_gateway.cli.screen import local_time, table

IDS = ("3f2a9c1e", "0d2d7f3a")
AMOUNTS = ("$12.345678", "$0.000001")
PROSE = "writes code and runs the tests that belong to it"


def render(renderable: RenderableType, width: int) -> str:
    output = io.StringIO()
    Console(file=output, width=width, color_system=None).print(renderable)
    return output.getvalue()


def some_table(rows: Sequence[Sequence[str]]) -> RenderableType:
    made = table(
        *("id", "state", "note", "turns", "cost"),
        right=("turns", "cost"),
        wraps=("note",),
        optional=("turns",),
    )
    for row in rows:
        made.add_row(*row)
    return made


ROWS = [(IDS[0], "finished", PROSE, "12", AMOUNTS[0]), (IDS[1], "failed", "", "", AMOUNTS[1])]


@pytest.mark.parametrize("width", [500, 80, 60, 40, 30])
def test_no_id_amount_or_state_is_broken_and_texts_break_at_spaces(width: int) -> None:
    shown = render(some_table(ROWS), width)
    assert all(len(line.rstrip()) <= width for line in shown.splitlines())
    words = shown.split()
    for whole in (*IDS, *AMOUNTS, "finished", "failed", *PROSE.split()):
        assert whole in words


def test_a_column_that_does_not_fit_or_has_no_value_is_left_out() -> None:
    rows = [(IDS[0], "finished", "short", "12", AMOUNTS[0])]
    assert "turns" in render(some_table(rows), 60)
    assert "turns" not in render(some_table(rows), 38)
    assert "turns" not in render(some_table([(IDS[0], "finished", "short", "", AMOUNTS[0])]), 500)


def test_where_no_table_fits_each_row_is_a_block() -> None:
    lines = [line.rstrip() for line in render(some_table(ROWS), 24).splitlines()]
    assert lines[:2] == ["id    3f2a9c1e", "state finished"]
    assert "turns 12" in lines
    assert lines[-3:] == ["id    0d2d7f3a", "state failed", "cost  $0.000001"]


@pytest.mark.parametrize("width", [80, 40])
def test_a_block_keeps_a_whole_id_on_one_line(width: int) -> None:
    run_id = "16f76f1e-c516-4f6c-af1e-0312a60ec818"
    shown = render(Block([("conversation", run_id), ("nothing", None), ("empty", "")]), width)
    assert shown.split() == ["conversation", run_id]


def node(agent: str, depth: int, *children: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    run = {
        "id": f"{depth}f2a9c1e-c516-4f6c-af1e-0312a60ec818",
        "agent": agent,
        "depth": depth,
        "state": "finished",
        "created_at": "2026-11-30T14:22:01.123Z",
        "seconds": 11.1,
        "turns": 1,
        "tokens": {"prompt": 36_122, "completion": 380},
        "cost": {"self": "0.005646", "tree": "0.029540", "complete": True},
        "descendants": len(children),
        "limits": {"max_depth": 3},
        "children": children,
    }
    return {**run, **changes}


DEEP = node(
    "openhands_lead",
    0,
    node("openhands_researcher", 1, state="failed", error_code="delegation_depth_exceeded"),
    node("openhands_lead", 1, node("openhands_lead", 2, node("openhands_coder", 3))),
)


@pytest.mark.parametrize(("width", "names_are_whole"), [(500, True), (80, True), (40, False)])
def test_a_tree_keeps_its_lines_states_and_costs_and_names_if_they_fit(width: int, names_are_whole: bool) -> None:
    shown = render(draw_tree(ListedRun.model_validate(DEEP)), width)
    lines = [line.rstrip() for line in shown.splitlines()]
    assert len(lines) == 6
    assert all(len(line) <= width for line in lines)
    assert all(("finished" in line or "failed" in line) and "$0.005646" in line for line in lines[1:])
    assert ("openhands_coder" in shown) is names_are_whole
    assert ("3f2a9c1e" in shown) is (width == 500)


@pytest.mark.parametrize(("zone", "shown"), [("UTC", "15:22+00:00"), ("Asia/Kolkata", "20:52+05:30")])
def test_times_are_local_and_have_their_offset(monkeypatch: pytest.MonkeyPatch, zone: str, shown: str) -> None:
    import time

    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert local_time("2026-11-30T15:22:09.123Z") == f"2026-11-30 {shown}"
        assert local_time(1_796_052_129.0) == f"2026-11-30 {shown}"
        assert local_time("soon") == "soon"
    finally:
        monkeypatch.undo()
        time.tzset()
