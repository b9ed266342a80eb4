"""Serve the LLM of the benchmark: the scripted one, directed by the first words of the task, so that requests stay small.

It is a separate process (`python -m bench.llm`), as a real LLM is.

    ok                  answers "ok" at once
    wait 500            answers after 500 ms
    tokens 40 50 1000   streams 40 tokens, one every 50 ms, the first after 1000 ms; each token is the time at which it was sent
    shell 3             calls the terminal in three turns, then answers
    descend 2           delegates to its own kind, which descends one less; at 0 it answers
    strand 2            the same; at 0 it never answers
"""

from collections.abc import Callable, Mapping
from typing import Final

from a2a_gateway.testing.script import ChatRequest, ScriptedCall, Step, text_of
from a2a_gateway.testing.scripted_llm import ScriptedLLM, serve_until_signal

_OK: Final = Step(content="ok")


def direct(request: ChatRequest) -> Step | None:
    """Choose the answer by the last user message."""
    index = max((at for at, message in enumerate(request.messages) if message.get("role") == "user"), default=None)
    if index is None:
        return None
    word, *numbers = text_of(request.messages[index]).split() or [""]
    act = _ACTS.get(word)
    return None if act is None else act(request.turns_since(index), [int(number) for number in numbers])


def _shell(turn: int, numbers: list[int]) -> Step:
    call = ScriptedCall("terminal", {"command": f"echo turn {turn}"})
    return Step(tool_calls=(call,)) if turn < numbers[0] else _OK


def _descend(turn: int, numbers: list[int]) -> Step:
    return _delegate("descend", numbers[0]) if numbers[0] and not turn else _OK


def _strand(turn: int, numbers: list[int]) -> Step:
    if turn:
        return _OK
    return _delegate("strand", numbers[0]) if numbers[0] else Step(hang=True)


def _delegate(word: str, left: int) -> Step:
    return Step(tool_calls=(ScriptedCall("delegate", {"agent": "self", "task": f"{word} {left - 1}"}),))


_ACTS: Final[Mapping[str, Callable[[int, list[int]], Step]]] = {
    "ok": lambda turn, numbers: _OK,
    "wait": lambda turn, numbers: Step(content="ok", ttft_ms=numbers[0]),
    "tokens": lambda turn, numbers: Step(content="$NOW " * numbers[0], token_ms=numbers[1], ttft_ms=numbers[2]),
    "shell": _shell,
    "descend": _descend,
    "strand": _strand,
}


if __name__ == "__main__":
    serve_until_signal(ScriptedLLM(direct=direct, keep=10))
