"""What a caller sees of an agent at work, by narration."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openhands.sdk.llm import Message, MessageToolCall, TextContent

from a2a_gateway.agents.llm.deltas import CallPiece, Piece, ReasoningPiece, TextPiece
from a2a_gateway.agents.narration import Narrator
from a2a_gateway.runs.events import ContentDelta, ReasoningDelta, RunnerEvent
from delegate_tool.masking import HIDDEN, Secrets
from delegate_tool.protocol.context import Narration

SECRET = "sk-0123456789abcdef"
EMPTY = Message(role="assistant", content=[])

THINKING: list[Piece] = [
    TextPiece("Let me "),
    TextPiece("look."),
    CallPiece(0, "terminal", '{"command"'),
    CallPiece(0, "", ': "ls"}'),
]
ANSWER: list[Piece] = [TextPiece("It is "), TextPiece("42.")]
FINISH: list[Piece] = [CallPiece(0, "finish", '{"mess'), CallPiece(0, "", 'age": "It is '), CallPiece(0, "", '42."}')]


def told(narration: Narration, *turns: Sequence[Piece], keep_answer: bool = False) -> tuple[list[RunnerEvent], Narrator]:
    events: list[RunnerEvent] = []
    narrator = Narrator(narration, Secrets.of([SECRET]), events.append, keep_answer=keep_answer)
    for turn in turns:
        narrator.begin_turn()
        for piece in turn:
            narrator.add(piece)
        narrator.end_turn(EMPTY)
    return events, narrator


def content(*texts: str) -> list[RunnerEvent]:
    return [ContentDelta(text) for text in texts]


def test_live_narration_and_answer_stream_as_they_come_separated_by_a_blank_line() -> None:
    events, narrator = told(Narration.LIVE, THINKING, ANSWER)
    assert events == content("Let me ", "look.", "\n\nIt is ", "42.")
    assert narrator.text == "Let me look.\n\nIt is 42."


def test_narration_as_reasoning_leaves_only_the_answer_in_the_content() -> None:
    events, narrator = told(Narration.REASONING, THINKING, ANSWER)
    assert events == [ReasoningDelta("Let me look."), ContentDelta("It is 42.")]
    assert narrator.text == "It is 42."


def test_without_narration_only_the_answer_is_told() -> None:
    events, _ = told(Narration.NONE, THINKING, ANSWER)
    assert events == content("It is 42.")


@pytest.mark.parametrize("narration", Narration)
def test_the_finish_tool_s_message_streams_as_its_argument_arrives(narration: Narration) -> None:
    events, _ = told(narration, FINISH)
    assert events == content("It is ", "42.")


@pytest.mark.parametrize("narration", Narration)
def test_a_finish_tool_that_is_named_after_its_arguments_began_tells_its_message(narration: Narration) -> None:
    late: list[Piece] = [CallPiece(0, "", '{"mess'), CallPiece(0, "", 'age": "It'), CallPiece(0, "finish", ' is 42."}')]
    assert told(narration, late)[0] == content("It is 42.")


def test_text_beside_the_finish_tool_is_narration() -> None:
    events, _ = told(Narration.LIVE, [TextPiece("Done."), *FINISH])
    assert events == content("Done.", "\n\nIt is ", "42.")
    events, _ = told(Narration.NONE, [TextPiece("Done."), *FINISH])
    assert events == content("It is ", "42.")


def test_a_finish_message_that_repeats_the_text_is_not_said_twice() -> None:
    events, narrator = told(Narration.LIVE, [*ANSWER, *FINISH])
    assert events == content("It is ", "42.")
    assert narrator.text == "It is 42."


def test_a_finish_message_that_only_begins_like_the_text_is_said_whole() -> None:
    _, narrator = told(Narration.LIVE, [TextPiece("It is 42. Really."), *FINISH])
    assert narrator.text == "It is 42. Really.\n\nIt is 42."
    _, narrator = told(Narration.LIVE, [TextPiece("It is"), *FINISH])
    assert narrator.text == "It is\n\nIt is 42."


def test_text_after_a_tool_call_of_the_same_answer_is_narration() -> None:
    events, _ = told(Narration.REASONING, [CallPiece(0, "terminal", "{}"), TextPiece("Looking.")], ANSWER)
    assert events == [ReasoningDelta("Looking."), ContentDelta("It is 42.")]


def test_white_space_around_tool_calls_makes_no_paragraph() -> None:
    events, _ = told(Narration.LIVE, [TextPiece("\n\n"), CallPiece(0, "terminal", "{}")], [TextPiece("\n"), TextPiece("Done.")])
    assert events == content("\nDone.")


def test_the_llm_s_own_reasoning_is_reasoning_under_every_narration() -> None:
    events, _ = told(Narration.NONE, [ReasoningPiece("Hm, "), ReasoningPiece("well."), *ANSWER])
    assert events == [ReasoningDelta("Hm, "), ReasoningDelta("well."), ContentDelta("It is 42.")]


@pytest.mark.parametrize("narration", Narration)
def test_an_answer_that_was_not_streamed_is_told_at_its_end(narration: Narration) -> None:
    events: list[RunnerEvent] = []
    narrator = Narrator(narration, Secrets(), events.append)
    narrator.begin_turn()
    call = MessageToolCall(id="1", name="finish", arguments='{"message": "It is 42."}', origin="completion")
    narrator.end_turn(Message(role="assistant", content=[], tool_calls=[call]))
    narrator.begin_turn()
    narrator.end_turn(Message(role="assistant", content=[TextContent(text="Or 43.")]))
    assert events == content("It is 42.", "\n\nOr 43.")


@pytest.mark.parametrize("narration", Narration)
def test_what_was_held_of_a_broken_answer_is_told(narration: Narration) -> None:
    events: list[RunnerEvent] = []
    narrator = Narrator(narration, Secrets(), events.append)
    narrator.begin_turn()
    narrator.add(TextPiece("It is"))
    narrator.abort_turn()
    assert events == content("It is")


def test_an_answer_that_is_checked_first_is_kept_and_narration_is_no_content() -> None:
    events, narrator = told(Narration.LIVE, THINKING, ANSWER, keep_answer=True)
    assert events == [ReasoningDelta("Let me look.")]
    assert (narrator.answer, narrator.text) == ("It is 42.", "")
    narrator.write(narrator.answer)
    assert narrator.text == "It is 42."


def test_only_the_last_answer_is_kept_for_checking() -> None:
    _, narrator = told(Narration.NONE, FINISH, [TextPiece("{}")], keep_answer=True)
    assert narrator.answer == "{}"


def test_the_last_words_are_told_when_a_limit_leaves_no_answer() -> None:
    _, narrator = told(Narration.NONE, THINKING)
    narrator.write_last_narration()
    assert narrator.text == "Let me look."


def test_a_secret_is_hidden_wherever_it_shows_and_however_it_is_cut() -> None:
    cut: list[Piece] = [
        ReasoningPiece(SECRET[:5]),
        ReasoningPiece(SECRET[5:]),
        TextPiece("key " + SECRET[:9]),
        TextPiece(SECRET[9:]),
    ]
    events, _ = told(
        Narration.LIVE, [*cut, CallPiece(0, "finish", '{"message": "' + SECRET[:4]), CallPiece(0, "", SECRET[4:] + '"}')]
    )
    assert events == [ReasoningDelta(HIDDEN), *content("key ", HIDDEN, "\n\n", HIDDEN)]


TURNS = st.lists(
    st.lists(
        st.one_of(
            st.text("ab \n", max_size=6).map(TextPiece),
            st.text("ab \n", max_size=4).map(ReasoningPiece),
            st.builds(
                CallPiece, st.integers(0, 1), st.sampled_from(["", "finish", "terminal"]), st.text('{"message":ab}', max_size=12)
            ),
        ),
        max_size=6,
    ),
    max_size=4,
)


@given(narration=st.sampled_from(Narration), turns=TURNS)
def test_joined_content_deltas_are_the_text(narration: Narration, turns: list[list[Piece]]) -> None:
    events, narrator = told(narration, *turns)
    assert "".join(event.text for event in events if isinstance(event, ContentDelta)) == narrator.text
    assert all(event.text for event in events if isinstance(event, ContentDelta | ReasoningDelta))
