"""What a shell wrote, cut into outputs: the same however the bytes arrive."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from a2a_gateway.host.keystrokes import keystrokes
from a2a_gateway.host.terminal_output import Report, TerminalOutput

PLAIN = st.text(st.characters(codec="utf-8", exclude_characters="\x1b\x1e\r"), max_size=40)


def report(number: int, exit_code: int, working_dir: str) -> bytes:
    return f"\x1enonce;{number};{exit_code};{working_dir}\x1e".encode()


@given(PLAIN, st.integers(0, 255), PLAIN, PLAIN, st.lists(st.integers(0, 200), max_size=8))
def test_any_chunking_of_a_terminals_bytes_gives_the_same_output_and_report(
    before: str, exit_code: int, working_dir: str, after: str, cuts: list[int]
) -> None:
    data = before.encode() + report(3, exit_code, working_dir) + after.encode()
    screen = TerminalOutput("nonce")
    edges = sorted({0, *(min(cut, len(data)) for cut in cuts), len(data)})
    for start, end in pairwise(edges):
        screen.feed(data[start:end])
    assert (screen.take(), screen.last) == (before + after, Report(3, exit_code, working_dir))


def test_a_report_with_another_nonce_is_output() -> None:
    screen = TerminalOutput("nonce")
    forged = "\x1eother;3;0;/\x1e"
    screen.feed(forged.encode())
    assert (screen.take(), screen.last) == (forged, None)


def test_a_flood_keeps_its_end_and_the_report_after_it() -> None:
    screen = TerminalOutput("nonce")
    for _ in range(100):
        screen.feed(b"x" * 65536)
    screen.feed(b"the end" + report(1, 0, "/"))
    text = screen.take()
    assert text.startswith("[The beginning of the output is lost")
    assert text.endswith("xthe end")
    assert len(text) < 3 * 1024 * 1024
    assert screen.last == Report(1, 0, "/")


def test_terminal_controls_are_dropped_and_an_overwritten_line_has_its_last_state() -> None:
    screen = TerminalOutput("nonce")
    screen.feed(b"\x1b[1;31mred\x1b[0m\r\n\x1b]0;title\x07 10%\r 99%\r100%\r\ndone\r")
    assert screen.take() == "red\n100%\ndone"


def test_names_of_keys_are_keys_and_all_else_is_a_line() -> None:
    typed = {"C-c": b"\x03", "ctrl+d": b"\x04", "UP": b"\x1b[A", "enter": b"\n", "y": b"y\n", "a\n": b"a\n", "C-cc": b"C-cc\n"}
    assert {text: keystrokes(text) for text in typed} == typed
