"""Dynamic masking: whole-word MLM, next tokens, UniLM, span corruption.

Masks are drawn when a batch is made, so they differ in each epoch. They only depend on the key of a
row, see `stateless_random`.

Every objective has `spec` (name -> shape and dtype of a row), and is called with padded rows and
their keys; it returns `(inputs, targets, weights)` for `keras.Model.fit`. Weights are 1 where there
is something to predict.
"""

import numpy as np

from bert4keras_lite.arguments import check_number

from .stateless_random import uniform

__all__ = ["FEATURES", "NEEDED", "OBJECTIVES", "Rows", "record_length"]

# Purposes of a key, to which positions, far below 2**32, are added.
_WORDS, _AIMS, _ACTIONS, _TOKENS, _NOISE, _CLEAN = (i << 32 for i in range(6))


class Rows:
    """Rows of token ids, padded to one length.

    Args:
        features: dict name -> the values of all rows, concatenated.
        lengths: the lengths of the rows.
        length: the length to pad to.
        pad_id: the id of the pad token.

    Attributes:
        token_ids: `(batch, length)` int32.
        lengths: `(batch,)`, the number of ids in each row without padding.
        real: `(batch, length)` bool, False for padding.
        word_starts: `(batch, length)` bool, whether a token begins a word; or None.
        segment_ids: `(batch, length)` int32, or None.
    """

    def __init__(self, features, lengths, length, pad_id):
        self.lengths = np.asarray(lengths)
        self.real = np.arange(length) < self.lengths[:, None]

        def filled(name, value, dtype):
            if name not in features:
                return None
            array = np.full(self.real.shape, value, dtype)
            array[self.real] = features[name]
            return array

        self.token_ids = filled("token_ids", pad_id, "int32")
        self.word_starts = filled("word_starts", True, bool)
        self.segment_ids = filled("segment_ids", 0, "int32")


def most_predictions(rate, length):
    """Returns the default `max_predictions`: `rate` of a full row, and 4 for the rest of a word."""
    return min(round(rate * length) + 4, length)


class WholeWordMasking:
    """Masked language modeling with whole-word masking.

    Words are drawn one by one until `rate` of the tokens are masked. The word that reaches this
    number is masked as a whole, whatever its length: otherwise short words would be masked more
    often than long ones. To compensate for its extra tokens, the target number is lowered by their
    average. Each token of a masked word becomes the mask token with probability `mask_share`, a
    random token with `random_share`, and stays otherwise. Special tokens, including the unknown
    token, are never masked nor drawn.

    Args:
        manifest: the contents of a corpus' `corpus.json`.
        rate: fraction of the tokens to predict. Default 0.15.
        max_predictions: length of the arrays of predictions. Default None: `rate` times the length
            of a full row, plus 4. A word that exceeds it is not masked; neither is a word of more
            than a third of it (and more than 4 tokens), such as a line of hyphens or a long number.
        mask_share: probability that a token to predict becomes the mask token. Default 0.8.
        random_share: probability that it becomes a random token. Default 0.1.
        whole_words: whether to mask whole words (default) or single tokens, as in Google's first
            BERT. With single tokens, a part of a masked word is often visible, which makes the task
            easier and soon learned.

    References: Devlin et al., 2018, https://arxiv.org/abs/1810.04805, section 3.1; Cui et al.,
    "Pre-Training with Whole Word Masking for Chinese BERT", 2019,
    https://arxiv.org/abs/1906.08101.
    """

    def __init__(
        self,
        manifest,
        rate=0.15,
        max_predictions=None,
        mask_share=0.8,
        random_share=0.1,
        whole_words=True,
    ):
        if not 0 < rate < 1:
            raise ValueError(f"rate={rate!r}; expected a fraction of the tokens, e.g. 0.15.")
        if min(mask_share, random_share) < 0 or mask_share + random_share > 1:
            raise ValueError(
                f"mask_share={mask_share!r}, random_share={random_share!r}; expected probabilities"
                " with a sum of at most 1."
            )
        length = manifest["sequence_length"]
        if max_predictions is not None:
            check_number("max_predictions", max_predictions, 1, length)
        special = manifest["special_ids"]
        self._rate, self._mask_share, self._random_share = rate, mask_share, random_share
        self._whole_words = whole_words
        self._most = max_predictions or most_predictions(rate, length)
        self._mask_id = special["mask"]
        self._special = np.unique([i for i in special.values() if i is not None])
        self._ordinary = manifest["vocab_size"] - len(self._special)  # number of other tokens
        row, predictions = ((length,), "int32"), ((self._most,), "int32")
        self.spec = (
            {"token_ids": row, "segment_ids": row, "masked_positions": predictions},
            predictions,
            ((self._most,), "float32"),
        )

    def __call__(self, rows, keys):
        masked = self._masked(rows, keys)
        row, position = np.nonzero(masked)
        counts = masked.sum(1)
        index = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        shape = (len(masked), self._most)
        positions, targets = np.zeros(shape, "int32"), np.zeros(shape, "int32")
        weights = np.zeros(shape, "float32")
        positions[row, index], weights[row, index] = position, 1
        targets[row, index] = original = rows.token_ids[row, position]

        action = uniform(keys[row], _ACTIONS + position)
        drawn = (uniform(keys[row], _TOKENS + position) * self._ordinary).astype("int32")
        # Skip the ids of special tokens.
        between = self._special - np.arange(len(self._special))
        drawn += np.searchsorted(between, drawn, "right").astype("int32")
        random = action < self._mask_share + self._random_share
        replacement = np.where(random, drawn, original)
        replacement[action < self._mask_share] = self._mask_id
        token_ids = rows.token_ids.copy()
        token_ids[row, position] = replacement
        inputs = {
            "token_ids": token_ids,
            "segment_ids": np.zeros_like(token_ids),
            "masked_positions": positions,
        }
        return inputs, targets, weights

    def _masked(self, rows, keys):
        """Returns which tokens to predict, all tokens of some words: `(batch, length)` bool."""
        batch, length = rows.token_ids.shape
        eligible = rows.real & ~np.isin(rows.token_ids, self._special)
        starts = rows.word_starts if self._whole_words else np.ones_like(rows.word_starts)
        word = np.cumsum(starts, axis=1) - starts[:, :1]
        flat = np.arange(batch)[:, None] * length + word
        sizes = np.bincount(flat[eligible], minlength=batch * length).reshape(batch, length)
        sizes[sizes > max(self._most // 3, 4)] = 0
        eligible &= np.take_along_axis(sizes, word, 1) > 0
        drawn = uniform(keys[:, None], _WORDS + np.arange(length))
        order = np.argsort(np.where(sizes > 0, drawn, 2.0), axis=1)
        in_order = np.take_along_axis(sizes, order, 1)
        sums = np.cumsum(in_order, axis=1)
        taken = (sums - in_order < self._aims(sizes, keys)[:, None]) & (sums <= self._most)
        masked = np.zeros_like(taken)
        np.put_along_axis(masked, order, taken, 1)
        return np.take_along_axis(masked, word, 1) & eligible

    def _aims(self, sizes, keys):
        """Returns the number of masked tokens at which no further word is drawn, for each row.

        The last word exceeds this number by (E[s^2] / E[s] - 1) / 2 tokens on average, for word
        sizes s (renewal theorem). A random number in [0, 1) is subtracted to compensate for
        rounding up.
        """
        total = sizes.sum(1)
        excess = ((sizes**2).sum(1) / np.maximum(total, 1) - 1) / 2
        return np.maximum(self._rate * total - excess + uniform(keys, _AIMS) - 1, 0.5)


class ReplacedTokens(WholeWordMasking):
    """Masking of ELECTRA: `WholeWordMasking` with the shares of its code (85 % masked, 15 % kept).

    The generator's replacements, and hence the discriminator's targets, are computed on the device.

    References: Clark et al., 2020, https://arxiv.org/abs/2003.10555; `mask` in
    https://github.com/google-research/electra, pretrain/pretrain_helpers.py, where single tokens
    are masked instead of words.
    """

    def __init__(self, manifest, mask_share=0.85, random_share=0.0, **options):
        super().__init__(manifest, mask_share=mask_share, random_share=random_share, **options)


def _next_tokens(rows, weights, pad_id):
    """Returns the token after each token, and the weights shifted alike."""
    targets = np.full_like(rows.token_ids, pad_id)
    targets[:, :-1] = rows.token_ids[:, 1:]
    shifted = np.zeros(weights.shape, "float32")
    shifted[:, :-1] = weights[:, 1:]
    return targets, shifted


class NextTokens:
    """Next-token prediction of GPT: each token is predicted from those before it."""

    def __init__(self, manifest):
        self._pad_id = manifest["special_ids"]["pad"] or 0
        row = ((manifest["sequence_length"],), "int32")
        self.spec = {"token_ids": row}, row, (row[0], "float32")

    def __call__(self, rows, keys):
        return {"token_ids": rows.token_ids}, *_next_tokens(rows, rows.real, self._pad_id)


class PrefixToText:
    """Prefix language model of UniLM: predicts segment 1, given segment 0 and earlier tokens.

    Reference: Dong et al., "Unified Language Model Pre-training for Natural Language
    Understanding and Generation", 2019, https://arxiv.org/abs/1905.03197.
    """

    def __init__(self, manifest):
        self._pad_id = manifest["special_ids"]["pad"] or 0
        row = ((manifest["sequence_length"],), "int32")
        self.spec = {"token_ids": row, "segment_ids": row}, row, (row[0], "float32")

    def __call__(self, rows, keys):
        inputs = {"token_ids": rows.token_ids, "segment_ids": rows.segment_ids}
        return inputs, *_next_tokens(rows, rows.segment_ids, self._pad_id)


# T5


def span_counts(length, density=0.15, mean_span=3.0):
    """Returns `(tokens, spans)`, the numbers of masked tokens and spans of a text."""
    tokens = min(max(round(length * density), 1), length - 1)
    if tokens < 1:
        return 0, 0
    return tokens, min(max(round(tokens / mean_span), 1), tokens, length - tokens)


def corrupted_lengths(length, density=0.15, mean_span=3.0):
    """Returns the lengths of the encoder's and the decoder's input, with end tokens."""
    tokens, spans = span_counts(length, density, mean_span)
    return length - tokens + spans + 1, tokens + spans + 1


def uncorrupted_length(encoder_length, density=0.15, mean_span=3.0):
    """Returns the length of the longest text with an encoder input of at most `encoder_length`."""
    length = 1
    while corrupted_lengths(length + 1, density, mean_span)[0] <= encoder_length:
        length += 1
    return length


def record_length(mode, sequence_length):
    """Returns the length of a corpus' rows, for models with `sequence_length` tokens."""
    return uncorrupted_length(sequence_length) if mode == "t5" else sequence_length


class SpanCorruption:
    """Span corruption of T5: spans are replaced by sentinels, and predicted after these.

    A text `a b c d e f` may become `a <0> d <1>`, with the target `<0> b c <1> e f`, each with an
    end token. The decoder's inputs are the targets shifted by one position, after a pad token.

    Args:
        manifest: the contents of a corpus' `corpus.json`.
        density: fraction of the tokens to mask. Default 0.15.
        mean_span: average length of the spans, in tokens. Default 3.

    Reference: Raffel et al., "Exploring the Limits of Transfer Learning with a Unified
    Text-to-Text Transformer", 2019, https://arxiv.org/abs/1910.10683, section 3.1.4.
    """

    def __init__(self, manifest, density=0.15, mean_span=3.0):
        if not 0 < density < 1 or mean_span < 1:
            raise ValueError(
                f"density={density!r}, mean_span={mean_span!r}; expected a fraction of the tokens,"
                " e.g. 0.15, and a length of at least 1."
            )
        self._density, self._mean_span = density, mean_span
        self._sentinels = np.array(manifest["sentinel_ids"], "int32")
        self._end_id = manifest["special_ids"]["sep"]
        self._pad_id = manifest["special_ids"]["pad"] or 0
        longest = manifest["record_length"]
        _, spans = span_counts(longest, density, mean_span)
        if spans > len(self._sentinels):
            raise ValueError(
                f"{spans} spans in a text of {longest} tokens, and the vocabulary has"
                f" {len(self._sentinels)} sentinels; expected a lower density, a longer mean_span"
                " or a shorter sequence length."
            )
        encoder, decoder = corrupted_lengths(longest, density, mean_span)
        if encoder > manifest["sequence_length"]:
            raise ValueError(
                f"density={density}, mean_span={mean_span}: texts of {longest} tokens leave"
                f" {encoder} for the encoder, and its sequence length is"
                f" {manifest['sequence_length']}; make the corpus for a shorter one."
            )
        self._shapes = manifest["sequence_length"], decoder
        targets = ((decoder,), "int32")
        self.spec = (
            {
                "encoder_token_ids": ((manifest["sequence_length"],), "int32"),
                "decoder_token_ids": targets,
            },
            targets,
            ((decoder,), "float32"),
        )

    def __call__(self, rows, keys):
        batch = len(rows.lengths)
        encoder, targets = (np.full((batch, n), self._pad_id, "int32") for n in self._shapes)
        weights = np.zeros(targets.shape, "float32")
        for length in np.unique(rows.lengths).tolist():
            (indices,) = np.nonzero(rows.lengths == length)
            inputs, answers = self._corrupted(rows.token_ids[indices, :length], keys[indices])
            encoder[indices, : inputs.shape[1]] = inputs
            targets[indices, : answers.shape[1]] = answers
            weights[indices, : answers.shape[1]] = answers.shape[1] > 1
        decoder = np.full_like(targets, self._pad_id)
        decoder[:, 1:] = targets[:, :-1]
        # After the end token, there is nothing to predict and only padding as input.
        decoder[:, 1:][weights[:, 1:] == 0] = self._pad_id
        inputs = {"encoder_token_ids": encoder, "decoder_token_ids": decoder}
        return inputs, targets, weights

    def _corrupted(self, token_ids, keys):
        """Returns the encoder's inputs and the targets of texts of one length."""
        batch, length = token_ids.shape
        end = np.full((batch, 1), self._end_id, "int32")
        tokens, spans = span_counts(length, self._density, self._mean_span)
        if not tokens:
            return np.concatenate([token_ids, end], 1), end
        noise = _parts(tokens, spans, keys, _NOISE)
        clean = _parts(length - tokens, spans, keys, _CLEAN)
        # Clean and masked spans alternate, beginning with a clean one.
        sizes = np.stack([clean, noise], 2).reshape(batch, -1)
        number = np.repeat(np.tile(np.arange(2 * spans), batch), sizes.ravel())
        number = number.reshape(batch, length)
        first = np.diff(number, axis=1, prepend=-1) > 0
        is_noise = number % 2 == 1
        sentinels = self._sentinels[number // 2]

        def with_sentinels(hidden):
            tokens = np.where(hidden, sentinels, token_ids)[~hidden | first]
            return np.concatenate([tokens.reshape(batch, -1), end], 1)

        return with_sentinels(is_noise), with_sentinels(~is_noise)


def _parts(total, count, keys, purpose):
    """Splits `total` items at random into `count` non-empty parts: sizes `(batch, count)`."""
    drawn = uniform(keys[:, None], purpose + np.arange(total - 1))
    cuts = np.sort(np.argsort(drawn, axis=1)[:, : count - 1], axis=1) + 1
    edges = np.zeros((len(keys), count + 1), np.int64)
    edges[:, 1:-1], edges[:, -1] = cuts, total
    return np.diff(edges, axis=1)


OBJECTIVES = {
    "mlm": WholeWordMasking,
    "electra": ReplacedTokens,
    "lm": NextTokens,
    "unilm": PrefixToText,
    "t5": SpanCorruption,
}
# Special tokens that the rows or masks of each mode need.
NEEDED = {
    "mlm": ("cls", "sep", "mask"),
    "electra": ("cls", "sep", "mask"),
    "lm": (),
    "unilm": ("cls", "sep"),
    "t5": ("sep",),
}
# Lists in the records of each mode; `electra` and `mlm` use the same corpora.
FEATURES = {
    "mlm": ("token_ids", "word_starts"),
    "electra": ("token_ids", "word_starts"),
    "lm": ("token_ids",),
    "unilm": ("token_ids", "segment_ids"),
    "t5": ("token_ids",),
}
