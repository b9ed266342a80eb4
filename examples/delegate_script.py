"""Have agents answer the same question at the same time, within a budget, in a form that a program can read.

    export A2A_BASE_URL=http://127.0.0.1:8420/v1 A2A_API_KEY=...
    python examples/delegate_script.py openhands_default openhands_default

An agent that fails costs its own answer, not the others'.
"""

import asyncio
import sys
from decimal import Decimal

from pydantic import BaseModel

from delegate_tool import DelegationError, DelegationResult, adelegate


class Estimate(BaseModel):
    """What each agent answers."""

    days: int
    reason: str


async def ask(agent: str) -> DelegationResult:
    return await adelegate(
        agent,
        "How many days does it take to walk from Munich to Venice?",
        response_format=Estimate,
        budget_usd="0.50",
        timeout_s=300,
        max_depth=0,  # it answers by itself
    )


async def main(agents: list[str]) -> None:
    results = await asyncio.gather(*map(ask, agents))
    for agent, result in zip(agents, results, strict=True):
        try:
            estimate: Estimate = result.raise_for_status().parsed
            print(f"{agent}: {estimate.days} days. {estimate.reason}")
        except DelegationError as error:
            print(f"{agent}: {error}", file=sys.stderr)
    known = [result.cost_usd for result in results if result.cost_usd is not None]
    print(f"# {sum(known, Decimal(0))} USD{'' if all(result.cost_complete for result in results) else ', or more'}")
    if not all(result.ok for result in results):
        sys.exit(1)


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1:] or ["openhands_default"]))
    except ValueError as error:  # an argument is malformed, or the endpoint is not set
        sys.exit(str(error))
