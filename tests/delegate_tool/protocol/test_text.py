"""The suggestion for a misspelled name."""

import pytest

from delegate_tool.protocol.text import did_you_mean


@pytest.mark.parametrize(
    ("name", "known", "prefix", "meant"),
    [
        ("max_dept", ["max_depth", "max_runs"], "", "max_depth"),
        ("Max-Depth", ["max_depth", "max_runs"], "", "max_depth"),
        ("X-A2A-Buget-USD", ["X-A2A-Budget-USD", "X-A2A-Max-Depth"], "X-A2A-", "X-A2A-Budget-USD"),
        ("led", ["openhands_lead", "openhands_coder"], "openhands_", "openhands_lead"),
        ("openhands_xyz", ["openhands_lead"], "openhands_", None),
        ("anything", [], "", None),
        ("", ["max_depth"], "", None),
        ("x" * 1_000_000, ["max_depth"], "", None),
    ],
)
def test_only_a_name_that_is_like_a_known_one_gets_a_suggestion(
    name: str, known: list[str], prefix: str, meant: str | None
) -> None:
    assert did_you_mean(name, known, prefix=prefix) == (f" (did you mean {meant}?)" if meant else "")
