"""Picking whole rows out of a table, image by image."""

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
