"""What attention has seen, kept from one step of writing to the next."""

import keras
from keras import ops


class Cache:
    """Keys and values of one attention layer, so that those of each token are computed once.

    The first call fills an empty cache; later ones write into it, from slot `index` on, and see
    all of it, also the slots that nothing was written to: a bias must hide these. The arrays
    keep their shape, so that a compiled loop can carry them.

    Args:
        keys, values: `(batch, ..., slots)`; None: nothing yet.
        index: the first slot to write to, an integer tensor; None: the cache never grows (that
            of a decoder's attention to its memory).
    """

    def __init__(self, keys=None, values=None, index=None):
        self.keys, self.values, self.index = keys, values, index

    def extend(self, compute):
        """All keys and values to attend to; `compute()` gives those of this call, if needed."""
        if self.keys is None:
            self.keys, self.values = compute()
        elif self.index is not None:
            self.keys, self.values = (
                self.written(old, new)
                for old, new in zip((self.keys, self.values), compute(), strict=True)
            )
        return self.keys, self.values

    def written(self, slots, new):
        if keras.backend.backend() == "torch":  # in place: slice_update would copy the whole cache
            places = ops.cast(self.index, "int64") + ops.arange(new.shape[-1], dtype="int64")
            return slots.index_copy_(-1, places, ops.cast(new, slots.dtype))
        start = (0,) * (len(slots.shape) - 1) + (self.index,)
        return ops.slice_update(slots, start, new)
