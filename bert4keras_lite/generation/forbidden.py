"""Tokens that would complete a forbidden sequence: a bad word, or an n-gram that occurred.

Everything is a tensor of a fixed shape, so that a compiled loop can compute it. A sequence is
forbidden by its last token: it is barred where the tokens before it are those that came last.
"""

import numpy as np
from keras import ops

__all__ = ["context_of", "forbidden_tokens", "table_of", "which_occur", "window_of"]

ABSENT = -1  # before the first token of a context; as the last of a sequence: there is none
ANY = -2  # in a forbidden sequence, before its first token: any token, or none, may be there
LEAST_WORDS = 8  # rows of a table, so that few sizes compile


def table_of(words):
    """Returns the array of forbidden sequences of two or more ids, int32 `(number, length)`.

    Both sizes are powers of two, so that few sizes compile.
    """
    if not words:
        return np.zeros((0, 2), "int32")
    longest = max(map(len, words))
    table = np.full((_size(max(len(words), LEAST_WORDS)), _size(longest)), ANY, "int32")
    table[:, -1] = ABSENT
    for row, word in zip(table, words, strict=False):
        row[-len(word) :] = word
    return table


def window_of(ngram_size):
    """Returns the length of the windows that are compared for n-grams: few sizes compile."""
    return _size(max(ngram_size, 2))


def _size(number):
    return 1 << (number - 1).bit_length()


def context_of(tokens, start, window, table):
    """Returns what comes before the new tokens, with room for the longest sequence before it.

    Args:
        tokens: of prompts, or the first of a decoder, padded on the left, `(batch, length)`.
        start: position of the first token of each row, `(batch, 1)`.
        window: length of the windows in which n-grams are compared, or 0.
        table: of bad words, see `table_of`.

    Returns:
        int32 `(batch, room + length)`.
    """
    tokens = np.where(np.arange(tokens.shape[1]) >= start, tokens, ABSENT)
    room = max(window, table.shape[1]) - 1
    return np.pad(tokens, [(0, 0), (room, 0)], constant_values=ABSENT).astype("int32")


def forbidden_tokens(search, state, sampling_params, vocab_size):
    """Marks the tokens that would complete a bad word or repeat an n-gram.

    Args:
        search: a `DecodingConfig`.
        state: the `State`.
        sampling_params: `context`, see `context_of`; `bad_words`, see `table_of`; `ngram_size`, at
            most `search.ngram_window`.
        vocab_size: number of tokens.

    Returns:
        bool `(batch, width, vocab_size)`.
    """
    batch, width, _ = state.tokens.shape
    context = sampling_params["context"]
    length = context.shape[1]
    context = ops.broadcast_to(context[:, None], (batch, width, length))
    history = ops.concatenate([context, state.tokens], axis=-1)
    end = length + state.num_tokens
    forbidden = []
    if sampling_params["bad_words"].shape[0]:
        forbidden.append(sampling_params["bad_words"])
    if search.ngram_window:
        ngram_size = sampling_params["ngram_size"]
        forbidden.append(_windows(history, end, search.ngram_window, ngram_size))
    marks = [_completions(sequences, history, end, vocab_size) for sequences in forbidden]
    return ops.any(ops.stack(marks), axis=0)


def _windows(history, end, size, ngram_size):
    """Returns all n-grams before `end`, as sequences of `size`: `(batch, width, number, size)`."""
    starts = ops.arange(history.shape[-1] - size + 1, dtype="int32")[:, None]
    offsets = ops.arange(size, dtype="int32")
    windows = ops.take(history, starts + offsets, axis=-1)
    windows = ops.where(offsets < size - ngram_size, ANY, windows)
    is_new = ops.logical_and(starts + offsets >= end, offsets == size - 1)
    return ops.where(is_new, ABSENT, windows)


def _completions(sequences, history, end, vocab_size):
    """Marks the last tokens of the sequences whose other tokens are the last before `end`.

    Args:
        sequences: `(number, length)` or `(batch, width, number, length)`.
        history: tokens, `(batch, width, positions)`.
        end: number of the positions that are in use.
        vocab_size: number of tokens.

    Returns:
        bool `(batch, width, vocab_size)`.
    """
    batch, width, _ = history.shape
    number, length = sequences.shape[-2:]
    offsets = end - length + 1 + ops.arange(length - 1, dtype="int32")
    recent = ops.take(history, offsets, axis=-1)[:, :, None]
    before, last = sequences[..., :-1], sequences[..., -1]
    agree = ops.logical_or(before == ANY, before == recent)
    matches = ops.logical_and(ops.all(agree, axis=-1), last >= 0)
    shape = (batch * width, number)
    last = ops.reshape(ops.broadcast_to(last, (batch, width, number)), shape)
    marks = which_occur(last, ops.reshape(matches, shape), vocab_size)
    return ops.reshape(marks, (batch, width, vocab_size))


def which_occur(tokens, is_token, vocab_size):
    """Marks the ids that occur in each row: `(batch, length)` to bool `(batch, vocab_size)`."""
    batch, length = tokens.shape
    rows = ops.repeat(ops.arange(batch, dtype="int32"), length)
    ids = ops.reshape(ops.where(is_token, tokens, vocab_size), (-1,))  # others: an extra column
    seen = ops.zeros((batch, vocab_size + 1), "bool")
    indices = ops.stack([rows, ops.cast(ids, "int32")], axis=1)
    return ops.scatter_update(seen, indices, ops.ones((batch * length,), "bool"))[:, :-1]
