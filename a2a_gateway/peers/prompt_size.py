"""Measure the prompt that is sent to a plain endpoint."""

import json
from collections.abc import Iterator

from a2a_gateway.runs.messages import AssistantMessage, ImagePart, Message
from a2a_gateway.runs.model import AdmittedRun
from a2a_gateway.runs.prompt_size import PromptSize, count_utf8_bytes


def measure_prompt(run: AdmittedRun) -> PromptSize:
    """Measure what a run sends."""
    schema = json.dumps(run.answer_format.schema) if run.answer_format is not None else ""
    texts = (text for message in run.messages for text in _texts(message))
    images = sum(isinstance(part, ImagePart) for message in run.messages for part in message.parts)
    return PromptSize(len(schema) + sum(map(count_utf8_bytes, texts)), len(run.messages), images)


def _texts(message: Message) -> Iterator[str]:
    for part in message.parts:
        if not isinstance(part, ImagePart):
            yield part.text
    if isinstance(message, AssistantMessage):
        for call in message.tool_calls:
            yield call.name
            yield call.arguments
