"""From rows of token ids to what a model is trained on: masked words, next tokens, blanks.

All of it happens when a batch is made, so that each epoch masks anew. What is drawn depends on the
key of a row only, see `draws`.

Every objective has `spec` (name -> shape and dtype of a row) and is called with padded rows and
their keys; it gives `(inputs, targets, weights)`, as `keras.Model.fit` takes them. Weights are
1 where there is something to predict.
"""

import numpy as np

from bert4keras_lite.arguments import check_number

from .stateless_random import uniform

# What a key is used for; positions are far below 2**32.
_WORDS, _AIMS, _ACTIONS, _TOKENS, _NOISE, _CLEAN = (i << 32 for i in range(6))


class Rows:
    """Rows of token ids, filled up to one length.

    Attributes:
        token_ids: `(batch, length)` int32.
        lengths: `(batch,)`: how many ids of each row are real.
        word_starts: `(batch, length)` bool, or None: whether a word begins with a token.
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
    """Room for the predictions of a full row: its share of the tokens, and the rest of a word."""
    return min(round(rate * length) + 4, length)


class WholeWordMasking:
    """Masked-language-model targets: some words are hidden, all tokens of each of them.

    Words are drawn one after the other until `rate` of the tokens are hidden. The word with which
    this is reached is hidden, too, long or short: if it had to fit in, short words would be hidden
    more often than long ones. As that makes for some more tokens, as many less are aimed at. Each
    token of a hidden word becomes the mask token with probability
    `mask_share`, another one with `random_share`, and else stays. Special tokens, the unknown
    token among them, are never hidden nor drawn.

    Args:
        manifest: the contents of a corpus' `corpus.json`.
        rate: share of the tokens to predict.
        max_predictions: length of the arrays of predictions; the default is what `rate` gives for
            a full row and 4 more. A word that finds no room is not hidden; nor is one that would
            take more than a third of it (and than 4): a rule of hyphens, a long number.
        mask_share, random_share: what becomes of a token to predict.
        whole_words: False: each token by itself, as in Google's first BERT. Half of a hidden
            word is then often in sight, which is easier, and soon learned.

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
            raise ValueError(f"rate={rate!r}; expected a share of the tokens, e.g. 0.15")
        if min(mask_share, random_share) < 0 or mask_share + random_share > 1:
            raise ValueError(
                f"mask_share={mask_share!r}, random_share={random_share!r}; expected shares with a"
                " sum of at most 1"
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
        self._ordinary = manifest["vocab_size"] - len(self._special)  # so many others
        row, predictions = ((length,), "int32"), ((self._most,), "int32")
        self.spec = (
            {"token_ids": row, "segment_ids": row, "masked_positions": predictions},
            predictions,
            ((self._most,), "float32"),
        )

    def __call__(self, rows, keys):
        hidden = self._hidden(rows, keys)
        row, position = np.nonzero(hidden)
        counts = hidden.sum(1)
        slot = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        shape = (len(hidden), self._most)
        positions, targets = np.zeros(shape, "int32"), np.zeros(shape, "int32")
        weights = np.zeros(shape, "float32")
        positions[row, slot], weights[row, slot] = position, 1
        targets[row, slot] = original = rows.token_ids[row, position]

        action = uniform(keys[row], _ACTIONS + position)
        drawn = (uniform(keys[row], _TOKENS + position) * self._ordinary).astype("int32")
        # the ids of ordinary tokens in order, between those of special ones
        between = self._special - np.arange(len(self._special))
        drawn += np.searchsorted(between, drawn, "right").astype("int32")
        random = action < self._mask_share + self._random_share
        instead = np.where(random, drawn, original)
        instead[action < self._mask_share] = self._mask_id
        token_ids = rows.token_ids.copy()
        token_ids[row, position] = instead
        inputs = {
            "token_ids": token_ids,
            "segment_ids": np.zeros_like(token_ids),
            "masked_positions": positions,
        }
        return inputs, targets, weights

    def _hidden(self, rows, keys):
        """Which tokens are to be predicted: whole words."""
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
        hidden = np.zeros_like(taken)
        np.put_along_axis(hidden, order, taken, 1)
        return np.take_along_axis(hidden, word, 1) & eligible

    def _aims(self, sizes, keys):
        """How many tokens must be hidden for no further word to be drawn, of each row.

        The last word goes beyond by (E[s^2] / E[s] - 1) / 2 tokens on average, for sizes s (the
        renewal theorem). Up to a token less, by chance, makes up for rounding up.
        """
        total = sizes.sum(1)
        beyond = ((sizes**2).sum(1) / np.maximum(total, 1) - 1) / 2
        return np.maximum(self._rate * total - beyond + uniform(keys, _AIMS) - 1, 0.5)


class ReplacedTokens(WholeWordMasking):
    """ELECTRA: as `WholeWordMasking`, with the shares of ELECTRA's code (85 % masked, 15 % kept).

    What the generator puts in place of the hidden words, and hence the discriminator's targets,
    is known on the device only.

    References: Clark et al., 2020, https://arxiv.org/abs/2003.10555; `mask` in
    https://github.com/google-research/electra, pretrain/pretrain_helpers.py, where single tokens
    are hidden instead of words.
    """

    def __init__(self, manifest, mask_share=0.85, random_share=0.0, **options):
        super().__init__(manifest, mask_share=mask_share, random_share=random_share, **options)


def _next_tokens(rows, weights, pad_id):
    """The token behind each, and the weights of those that are to be predicted."""
    targets = np.full_like(rows.token_ids, pad_id)
    targets[:, :-1] = rows.token_ids[:, 1:]
    shifted = np.zeros(weights.shape, "float32")
    shifted[:, :-1] = weights[:, 1:]
    return targets, shifted


class NextTokens:
    """GPT: each token is predicted from those before it."""

    def __init__(self, manifest):
        self._pad_id = manifest["special_ids"]["pad"] or 0
        row = ((manifest["sequence_length"],), "int32")
        self.spec = {"token_ids": row}, row, (row[0], "float32")

    def __call__(self, rows, keys):
        return {"token_ids": rows.token_ids}, *_next_tokens(rows, rows.real, self._pad_id)


class PrefixToText:
    """UniLM: the text of segment 1 is predicted, from that of segment 0 and what is before it.

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
    """How many tokens and how many spans of a text are blanked out: `(tokens, spans)`."""
    tokens = min(max(round(length * density), 1), length - 1)
    if tokens < 1:
        return 0, 0
    return tokens, min(max(round(tokens / mean_span), 1), tokens, length - tokens)


def corrupted_lengths(length, density=0.15, mean_span=3.0):
    """The lengths of what encoder and decoder get of a text, end tokens included."""
    tokens, spans = span_counts(length, density, mean_span)
    return length - tokens + spans + 1, tokens + spans + 1


def uncorrupted_length(encoder_length, density=0.15, mean_span=3.0):
    """The length of the longest text that leaves at most `encoder_length` for the encoder."""
    length = 1
    while corrupted_lengths(length + 1, density, mean_span)[0] <= encoder_length:
        length += 1
    return length


def record_length(mode, sequence_length):
    """The length of the rows of a corpus whose model sees `sequence_length` tokens."""
    return uncorrupted_length(sequence_length) if mode == "t5" else sequence_length


class SpanCorruption:
    """T5: spans of a text give way to sentinels, and are to be written behind these.

    A text `a b c d e f` may become `a <0> d <1>`, to be answered by `<0> b c <1> e f`, each
    with an end token. The decoder sees its targets one step late, behind a pad token.

    Args:
        manifest: the contents of a corpus' `corpus.json`.
        density: share of the tokens to blank out.
        mean_span: average length of the spans.

    Reference: Raffel et al., "Exploring the Limits of Transfer Learning with a Unified
    Text-to-Text Transformer", 2019, https://arxiv.org/abs/1910.10683, section 3.1.4.
    """

    def __init__(self, manifest, density=0.15, mean_span=3.0):
        if not 0 < density < 1 or mean_span < 1:
            raise ValueError(
                f"density={density!r}, mean_span={mean_span!r}; expected a share of the tokens, e.g."
                " 0.15, and a length of at least 1"
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
                f" {len(self._sentinels)} sentinels; expected a lower density, a longer mean_span or"
                " a shorter sequence length"
            )
        encoder, decoder = corrupted_lengths(longest, density, mean_span)
        if encoder > manifest["sequence_length"]:
            raise ValueError(
                f"density={density}, mean_span={mean_span}: texts of {longest} tokens leave"
                f" {encoder} for the encoder, and its sequence length is"
                f" {manifest['sequence_length']}; make the corpus for a shorter one"
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
            (which,) = np.nonzero(rows.lengths == length)
            kept, blanked = self._corrupted(rows.token_ids[which, :length], keys[which])
            encoder[which, : kept.shape[1]] = kept
            targets[which, : blanked.shape[1]] = blanked
            weights[which, : blanked.shape[1]] = blanked.shape[1] > 1
        decoder = np.full_like(targets, self._pad_id)
        decoder[:, 1:] = targets[:, :-1]
        # Behind the end token comes nothing to predict, and nothing to see.
        decoder[:, 1:][weights[:, 1:] == 0] = self._pad_id
        inputs = {"encoder_token_ids": encoder, "decoder_token_ids": decoder}
        return inputs, targets, weights

    def _corrupted(self, token_ids, keys):
        """What texts of one length become for the encoder, and what is to be answered."""
        batch, length = token_ids.shape
        end = np.full((batch, 1), self._end_id, "int32")
        tokens, spans = span_counts(length, self._density, self._mean_span)
        if not tokens:
            return np.concatenate([token_ids, end], 1), end
        noise = _parts(tokens, spans, keys, _NOISE)
        clean = _parts(length - tokens, spans, keys, _CLEAN)
        # clean and blanked spans take turns, a clean one first
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
    """Random sizes of `count` parts, none of them empty, of `total` items: `(batch, count)`."""
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
# The lists of a record that each kind of corpus has; `electra` is trained on what `mlm` is.
# the special tokens without which there are no rows, or no masks
NEEDED = {
    "mlm": ("cls", "sep", "mask"),
    "electra": ("cls", "sep", "mask"),
    "lm": (),
    "unilm": ("cls", "sep"),
    "t5": ("sep",),
}
FEATURES = {
    "mlm": ("token_ids", "word_starts"),
    "electra": ("token_ids", "word_starts"),
    "lm": ("token_ids",),
    "unilm": ("token_ids", "segment_ids"),
    "t5": ("token_ids",),
}
