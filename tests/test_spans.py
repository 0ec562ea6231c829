"""Spans of characters and of tokens, and windows."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4keras_lite import Tokenizer
from bert4keras_lite.spans import character_spans, sliding_windows, token_spans

pytestmark = pytest.mark.once

SIGNS = [*"王芳在昆明，。12", "ab", "##a", "##b", "##1", "##2", "e"]
VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *SIGNS]
texts = st.text(st.sampled_from("王芳在昆明，。 ab12éＡ"), min_size=1, max_size=20)


@settings(deadline=None)
@given(data=st.data(), text=texts)
def test_spans_of_tokens_come_back(data, text):
    tokenizer = Tokenizer({token: i for i, token in enumerate(VOCAB)}, do_lower_case=True)
    *_, offsets = tokenizer.encode(text, return_offsets=True)
    tokens = range(1, len(offsets) - 1)
    if not tokens:
        return
    pairs = st.tuples(st.sampled_from(tokens), st.sampled_from(tokens), st.sampled_from("ab"))
    spans = data.draw(st.sets(pairs.map(lambda p: (*sorted((p[0], p[1] + 1)), p[2])), max_size=4))
    spans = {span for span in spans if span[0] < span[1]}
    assert token_spans(character_spans(spans, offsets), offsets) == spans


def test_spans_within_a_token_or_after_the_cut_are_left_out():
    offsets = [(0, 0), (0, 1), (1, 5), (5, 6), (0, 0)]  # 在 2007 年, and no more
    spans = {(0, 1, "in"), (2, 3, "within"), (0, 8, "cut"), (6, 8, "cut")}
    assert token_spans(spans, offsets) == {(1, 2, "in")}
    with pytest.raises(ValueError, match="within 5 tokens"):
        character_spans({(3, 6, "x")}, offsets)


@given(st.integers(0, 100), st.integers(1, 20), st.none() | st.integers(1, 20))
def test_windows_cover_a_sequence(length, width, stride):
    if stride is not None and stride > width:
        with pytest.raises(ValueError, match="stride"):
            sliding_windows(length, width, stride)
        return
    windows = sliding_windows(length, width, stride)
    assert {i for start, end in windows for i in range(start, end)} == {*range(length)}
    assert all(end - start == width for start, end in windows[:-1])
    assert windows[-1][1] == length and windows[0][0] == 0
    # an answer of half a window is whole in one of them
    if stride is None:
        for start in range(max(0, length - (width + 1) // 2 + 1)):
            assert any(a <= start and start + (width + 1) // 2 <= b for a, b in windows)
