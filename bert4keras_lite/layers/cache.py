"""Key/value cache for autoregressive decoding."""

from ..backend import write_at

__all__ = ["Cache"]


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
        return write_at(cached, new, self.index)
