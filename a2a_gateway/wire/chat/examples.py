"""Examples of chat completions for the OpenAPI document; see `wire.examples`."""

import json
from typing import Final

from a2a_gateway.wire.chat.response import ChunkRenderer, render_completion
from a2a_gateway.wire.examples import ANSWER, EVENTS, GATEWAY_ID, PROFILE, RECORD, SUMMARY

_CREATED: Final = int(RECORD.created_at)
_RENDERER: Final = ChunkRenderer(RECORD.id, PROFILE.model, _CREATED, include_usage=True, gateway_id=GATEWAY_ID)

REQUEST: Final = {
    "model": PROFILE.model,
    "messages": [{"role": "user", "content": "Make the tests pass."}],
    "stream": False,
    "a2a": {"budget_usd": 0.5, "max_depth": 1},
}
COMPLETION: Final = json.loads(
    render_completion(ANSWER, SUMMARY, model=PROFILE.model, created=_CREATED, gateway_id=GATEWAY_ID),
)
CHUNKS: Final = b"".join(map(_RENDERER.event, EVENTS)).decode()
