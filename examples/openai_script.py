"""Ask an agent with the plain OpenAI SDK: stream its answer, then print its run and its cost.

    export A2A_BASE_URL=http://127.0.0.1:8420/v1 A2A_API_KEY=...
    python examples/openai_script.py "Write a greeting."

Needs only `pip install openai`: what the gateway adds are headers and usage fields, which any client can read or ignore.
"""

import os
import sys

from openai import OpenAI, OpenAIError


def main() -> None:
    for name in ("A2A_BASE_URL", "A2A_API_KEY"):
        if not os.environ.get(name):
            sys.exit(f"Set {name}, such as A2A_BASE_URL=http://127.0.0.1:8420/v1 and a key of `a2a-gateway keys create NAME`.")
    client = OpenAI(base_url=os.environ["A2A_BASE_URL"], api_key=os.environ["A2A_API_KEY"])
    try:
        ask(client, " ".join(sys.argv[1:]) or "Introduce yourself in one sentence.")
    except OpenAIError as error:
        sys.exit(f"The gateway refused or failed: {error}")


def ask(client: OpenAI, task: str) -> None:
    model = os.environ.get("A2A_MODEL") or first_model(client)
    stream = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": task}],
        stream=True,
        stream_options={"include_usage": True},
        # Limits of this run and of everything that it delegates. All optional.
        extra_headers={"X-A2A-Budget-USD": "1.00", "X-A2A-Timeout": "600"},
    )
    print(f"# {model}, run {stream.response.headers.get('X-A2A-Run-ID')}")
    usage: dict[str, object] = {}
    for chunk in stream:
        for choice in chunk.choices:
            print(choice.delta.content or "", end="", flush=True)
        if chunk.usage is not None:
            usage = chunk.usage.model_dump()
    print(f"\n# {usage.get('total_tokens')} tokens, {usage.get('cost')} USD, in detail: {usage.get('cost_details')}")
    print(f"# to go on: X-OpenHands-ServerConversation-ID: {stream.response.headers.get('X-OpenHands-ServerConversation-ID')}")


def first_model(client: OpenAI) -> str:
    models = client.models.list().data
    if not models:
        sys.exit("The gateway serves no agent yet: add a profile, or set LLM_MODEL where it runs.")
    return models[0].id


if __name__ == "__main__":
    main()
