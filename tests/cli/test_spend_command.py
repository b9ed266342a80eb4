"""`a2a-gateway spend`, beside a running gateway."""

from a2a_gateway.testing.script import Step, Usage
from tests.cli.conftest import Served
from tests.support.ask import user


def test_the_bill_is_told_as_a_table_as_csv_and_as_json(served: Served) -> None:
    task = user("Spend.", Step(content="ok", usage=Usage(1_000, 10)))["content"]
    before = sum(line["calls"] for line in served.run_json("spend", "--by", "agent"))
    assert served.run("ask", "openhands_default", task).exit_code == 0

    lines = served.run_json("spend", "--by", "agent")
    assert sum(line["calls"] for line in lines) == before + 1
    header, *rows = served.run("spend", "--by", "agent", "--csv").stdout.splitlines()
    assert header == "name,calls,prompt_tokens,completion_tokens,cost_usd,complete"
    assert [row.split(",")[0] for row in rows] == [line["name"] for line in lines]
    assert "openhands_default" in served.run("spend", "--by", "agent").stdout
    assert served.run_json("spend", "--by", "day", "--until", "2020-01-01") == []
    assert "default" in served.run("spend").stdout


def test_what_a_bill_cannot_be_about_is_said(served: Served) -> None:
    result = served.run("spend", "--by", "mood")
    assert (result.exit_code, "key, agent, day" in result.stderr) == (2, True)
