"""Run an OpenHands agent of your own that delegates to the agents of a gateway.

    export A2A_BASE_URL=http://127.0.0.1:8420/v1 A2A_API_KEY=...
    export LLM_MODEL=openai/gpt-4o-mini LLM_API_KEY=...        # and LLM_BASE_URL, for another endpoint
    python examples/openhands_agent.py "Have two agents write a haiku each, and choose the better one."

The metrics of this agent contain the cost of the delegated runs, and Ctrl-C cancels them.
"""

import os
import sys
import tempfile

REQUIRED = {
    "A2A_BASE_URL": "the URL of the gateway, such as http://127.0.0.1:8420/v1",
    "A2A_API_KEY": "a key of `a2a-gateway keys create NAME`",
    "LLM_MODEL": "the LLM of this agent, in LiteLLM's notation",
    "LLM_API_KEY": "its key",
}


def main() -> None:
    missing = [f"{name}: {meaning}" for name, meaning in REQUIRED.items() if not os.environ.get(name)]
    if missing:
        sys.exit("\n".join(["Set in the environment:", *missing]))
    run(" ".join(sys.argv[1:]) or "Have two agents write a haiku each, at the same time, and choose the better one.")


def run(task: str) -> None:
    # Imported late, because importing the SDK takes seconds. `register` comes first: it imports the SDK with the prices that
    # LiteLLM ships. Otherwise LiteLLM fetches them from the network in a thread, which has crashed the import.
    from delegate_tool import register

    # isort: split
    from openhands.sdk import LLM, Agent, BaseConversation, Conversation, Tool
    from openhands.sdk.conversation.response_utils import get_agent_final_response
    from pydantic import SecretStr

    llm = LLM(
        model=os.environ["LLM_MODEL"],
        api_key=SecretStr(os.environ["LLM_API_KEY"]),
        base_url=os.environ.get("LLM_BASE_URL"),
        usage_id="agent",
    )
    # Delegations of one turn run in parallel as far as this limit allows.
    delegation = Tool(name=register(), params={"budget_usd": "0.50", "timeout_s": 600, "max_depth": 1})
    agent = Agent(llm=llm, tools=[delegation], tool_concurrency_limit=5)
    with tempfile.TemporaryDirectory() as workspace:
        conversation: BaseConversation = Conversation(agent, workspace=workspace)
        try:
            conversation.send_message(task)
            conversation.run()
            print(f"\n{get_agent_final_response(conversation.state.events)}")
            for usage_id, metrics in conversation.conversation_stats.usage_to_metrics.items():
                print(f"# {usage_id}: {metrics.model_name}, {metrics.accumulated_cost:.6f} USD")
        finally:
            conversation.close()


if __name__ == "__main__":
    main()
