"""Layers from heat maps to joints, as nodes of a graph: `ops.heatmaps` in float32. None has weights."""

from keras import layers, saving

from keras_cnns.ops import heatmaps as heatmap_ops

register = saving.register_keras_serializable("keras_cnns")


@register
class DecodeHeatmaps(layers.Layer):
    """`[B, h, w, J] -> [B, J, 3]`, as of `ops.heatmaps.decode`.

    Args:
      stride: pixels of the network's input to a cell.
    """

    def __init__(self, stride, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.stride = stride

    def call(self, heatmaps):
        return heatmap_ops.decode(heatmaps, self.stride)

    def get_config(self):
        return {**super().get_config(), "stride": self.stride}


@register
class MirrorAverage(layers.Layer):
    """`[B, h, w, J]` of an image, the same of its mirror image `-> [B, h, w, J]`, as of `ops.heatmaps.mirror_average`.

    Args:
      pairs: of joints that change names in the mirror, ((left, right), ...).
    """

    def __init__(self, pairs, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.pairs = [list(pair) for pair in pairs]

    def call(self, heatmaps, mirrored):
        return heatmap_ops.mirror_average(heatmaps, mirrored, self.pairs)

    def get_config(self):
        return {**super().get_config(), "pairs": self.pairs}
