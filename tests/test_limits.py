"""The table of limits: every place that knows limits knows exactly those of the table."""

from dataclasses import fields

import pytest

from a2a_gateway.agents.profiles.a2a_block import GATEWAY_SETTINGS, parse_block
from a2a_gateway.peer_settings import PeerPolicy, PeerSettings
from a2a_gateway.runs.limits import Limits
from a2a_gateway.settings import Settings
from a2a_gateway.stores.schema import keys, runs
from delegate_tool.protocol.context import DelegationContext
from delegate_tool.protocol.limits import ALLOWED_AGENTS, LIMITS, Limit, LimitPolicy, limits_of, render_limits

NAMES = [limit.name for limit in LIMITS]
FIELDS = {limit.field for limit in LIMITS}


@pytest.mark.parametrize("kind", [LimitPolicy, Limits])
def test_the_types_have_the_limits_of_the_table_in_its_order(kind: type[LimitPolicy | Limits]) -> None:
    assert [item.name for item in fields(kind)] == NAMES
    assert [item.name for item in fields(DelegationContext)][: len(NAMES)] == NAMES


def test_a_run_is_without_a_limit_only_where_the_table_allows_it() -> None:
    assert {item.name for item in fields(Limits) if "None" in str(item.type)} == {
        limit.name for limit in LIMITS if not limit.is_always_set
    }


def test_every_limit_but_the_allowed_agents_has_a_setting_with_the_same_default() -> None:
    assert FIELDS - set(Settings.model_fields) == {ALLOWED_AGENTS.field}
    assert limits_of(Settings()) == limits_of(Limits())


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
def test_every_limit_has_a_column_and_a_field_of_a_profile(limit: Limit) -> None:
    assert runs.c[limit.name].nullable is not limit.is_always_set
    assert keys.c[limit.name].nullable
    assert limit.field in GATEWAY_SETTINGS


def test_the_limits_of_a_profile_are_rendered_as_they_are_written() -> None:
    written = {
        "max_depth": 2,
        "max_breadth": 3,
        "max_runs": 4,
        "timeout_s": 5.5,
        "max_turns": 6,
        "budget_usd": "0.500000",
        "allowed_agents": ["openhands_a"],
    }
    assert set(written) == FIELDS
    assert render_limits(parse_block(written)) == written


def test_the_limits_of_a_peer_are_limits_of_the_table() -> None:
    peer = PeerSettings(id="box", base_url="http://box/v1", max_depth=1, max_runs=2, timeout_s=3, budget_usd="4")
    assert limits_of(peer) == LimitPolicy(max_depth=1, max_runs=2, timeout_s=3, budget_micro_usd=4_000_000)
    assert {"max_depth", "max_runs", "timeout_s"} <= set(PeerPolicy.model_fields) & FIELDS
