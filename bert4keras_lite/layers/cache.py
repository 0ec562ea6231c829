"""Key/value cache for autoregressive decoding."""

import keras
from keras import ops


class Cache:
    """Key/value cache of one attention layer: keys and values of a token are computed once.

    The first call fills an empty cache. Later calls write from position `index` on and attend to
    the whole cache, including positions not written yet; a bias has to mask these. The arrays keep
    their shape, so that a compiled loop can carry them.

    Args:
        keys, values: `(batch, ..., cache positions)`; None: empty.
        index: first position to write to, an integer tensor; None: the cache never grows (as in
            the cross-attention of a decoder).
    """

    def __init__(self, keys=None, values=None, index=None):
        self.keys, self.values, self.index = keys, values, index

    def extend(self, compute):
        """Returns all keys and values to attend to.

        Args:
            compute: function without arguments that returns the keys and values of this call; it is
                called only if they are needed.
        """
        if self.keys is None:
            self.keys, self.values = compute()
        elif self.index is not None:
            self.keys, self.values = (
                self.written(old, new)
                for old, new in zip((self.keys, self.values), compute(), strict=True)
            )
        return self.keys, self.values

    def written(self, cached, new):
        """Returns `cached` with `new` written from position `index` on."""
        if keras.backend.backend() == "torch":  # in place: slice_update would copy the whole cache
            positions = ops.cast(self.index, "int64") + ops.arange(new.shape[-1], dtype="int64")
            return cached.index_copy_(-1, positions, ops.cast(new, cached.dtype))
        start = (0,) * (len(cached.shape) - 1) + (self.index,)
        return ops.slice_update(cached, start, new)
