"""Secrets are hidden in whole texts and in streams."""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from delegate_tool.masking import HIDDEN, Secrets

SECRET = "sk-abcabcabd"
TEXTS = st.lists(st.sampled_from([*"abcdsk- ", SECRET, SECRET[:7], "sk-abcabc"]), max_size=20).map("".join)


@given(text=TEXTS, cuts=st.lists(st.integers(0, 200), max_size=20))
def test_a_stream_is_masked_like_the_whole_text_however_it_is_cut(text: str, cuts: list[int]) -> None:
    secrets = Secrets.of([SECRET])
    stream = secrets.stream()
    bounds = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    shown = [stream.feed(text[start:end]) for start, end in pairwise(bounds)]
    assert "".join([*shown, stream.flush()]) == secrets.mask(text)
    assert all(SECRET not in piece for piece in shown)


@example(["sk-abcd", "efgh", "-long"])
@example(["x", "xsk-abcdefgh", "x", "x"])
@given(pieces=st.lists(st.sampled_from(["sk-abcd", "efgh", "-long", "xx", "x"]), max_size=12))
def test_of_secrets_that_contain_each_other_a_stream_shows_no_part(pieces: list[str]) -> None:
    secrets = Secrets.of(["sk-abcdefgh", "sk-abcdefgh-long", "xxsk-abcdefghxx"])
    stream = secrets.stream()
    assert "".join([*map(stream.feed, pieces), stream.flush()]) == secrets.mask("".join(pieces))


def test_text_that_cannot_become_a_secret_is_shown_at_once() -> None:
    stream = Secrets.of([SECRET]).stream()
    assert [stream.feed("hello"), stream.feed(" sk-ab"), stream.feed("out"), stream.flush()] == ["hello", " ", "sk-about", ""]


def test_a_secret_that_contains_another_is_hidden_whole() -> None:
    secrets = Secrets.of(["sk-abcabcabd", "sk-abcabcabd-long", None, "short"])
    assert secrets.mask("a sk-abcabcabd-long b sk-abcabcabd short") == f"a {HIDDEN} b {HIDDEN} short"


def test_secrets_do_not_show_in_their_own_repr() -> None:
    assert SECRET not in repr(Secrets.of([SECRET]))


def test_a_json_value_is_masked_in_all_its_texts_and_names() -> None:
    secrets = Secrets.of(['sk-"quoted"-\\ü', SECRET])
    told = {SECRET: [1, None, {"a": f"x {SECRET}"}], "b": 'sk-"quoted"-\\ü', "c": 1.5}
    assert secrets.mask_json(told) == {HIDDEN: [1, None, {"a": f"x {HIDDEN}"}], "b": HIDDEN, "c": 1.5}


def test_a_number_that_has_the_digits_of_a_secret_stays_a_number() -> None:
    assert Secrets.of(["12345678"]).mask_json({"n": 123456789, "key": "12345678"}) == {"n": 123456789, "key": HIDDEN}


def test_a_json_value_that_is_nested_too_deeply_is_not_passed_on() -> None:
    deep: list[object] = []
    for _ in range(200_000):
        deep = [deep]
    assert Secrets.of([SECRET]).mask_json(deep) is None
