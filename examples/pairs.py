"""What the examples that hold two texts against each other share."""

from keras import ops


def compared(states, token_ids, segment_ids):
    """What a BERT saw of two texts in one row: the [CLS] vector, and how the two texts differ.

    The means of the two texts' vectors are taken from each other and multiplied, as for sentence
    vectors (Reimers and Gurevych, arXiv 1908.10084, section 3).

    Args:
        states: of the last block, `(batch, length, size)`.
        token_ids, segment_ids: `(batch, length)`.

    Returns:
        `(batch, 3 * size)`.
    """
    means = []
    for segment in (0, 1):
        inside = ops.cast((token_ids > 0) & ops.equal(segment_ids, segment), states.dtype)
        total = ops.sum(states * inside[:, :, None], axis=1)
        means.append(total / ops.sum(inside, axis=1, keepdims=True))
    first, second = means
    return ops.concatenate([states[:, 0], ops.abs(first - second), first * second], axis=-1)
