"""Picking whole rows out of a table, image by image, and the best of a row."""

import keras
from keras import ops


def rows(table, index):
    """Row `index[b, m]` of `table[b]`: `[B, N, ...], [B, M] -> [B, M, ...]`.

    One `take` on the flattened table copies whole rows; `take_along_axis` would gather number by number,
    many times slower. Indices must be within `0...N-1`.
    """
    batch, n = ops.shape(table)[0], ops.shape(table)[1]
    start = ops.arange(batch, dtype="int32") * ops.cast(n, "int32")
    flat = ops.reshape(table, (-1, *table.shape[2:]))
    return ops.take(flat, ops.cast(index, "int32") + start[:, None], axis=0)


def top_k(values, k):
    """The k largest numbers of each row and their places, falling: `[..., N] -> [..., k], [..., k]`, int32.

    Of equals the earlier comes first, on every backend: torch's own takes them as they come.
    """
    if keras.backend.backend() != "torch":
        return ops.top_k(values, k)
    places = ops.argsort(-values)[..., :k]
    return ops.take_along_axis(values, places, -1), places
