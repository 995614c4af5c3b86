"""Layers between a detector's regions and its objects' masks and joints: targets to learn from.

None of them has weights or a gradient. All compute in float32 whatever the policy.
"""

from keras import layers, ops, saving

from keras_cnns.ops import boxes as box_ops
from keras_cnns.ops import gather
from keras_cnns.ops import masks as mask_ops

register = saving.register_keras_serializable("keras_cnns")


@register
class MaskTargets(layers.Layer):
    """What each region sees of its object's mask. Mask R-CNN, section 3, "Training".

    `rois [B, P, 4], matched [B, P], row targets [B, P, 5], boxes [B, G, 4], crops [B, G, S, S], image [B, H, W, C] ->
    [B, P, size * size + 1]`: cells 0 to 1, row by row, and the label. A region that is no object has label 0 or -1, and
    so has one whose object's crop is empty: of it nothing is known.

    Args:
      size: of a target, cells to a side.
    """

    def __init__(self, size, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs}, autocast=False)
        self.size = size

    def call(self, rois, matched, targets, boxes, crops, image):
        crops = gather.rows(crops, matched)
        cells = mask_ops.align(crops, gather.rows(boxes, matched), rois, self.size, ops.shape(image)[1:3])
        label = targets[..., 4] * ops.cast(ops.any(crops > 0, (-2, -1)), "float32")
        cells = ops.reshape(cells, (-1, rois.shape[1], self.size**2))
        return ops.stop_gradient(ops.concatenate([cells, label[..., None]], -1))

    def get_config(self):
        return {**super().get_config(), "size": self.size}


@register
class KeypointTargets(layers.Layer):
    """Where in each region its object's joints are. Mask R-CNN, section 5.

    `rois [B, P, 4], matched [B, P], row targets [B, P, 5], keypoints [B, G, J, 3] -> [B, P, J]`: positions in a grid
    of size x size cells, `row * size + column`; -1 of a joint that is not labelled or lies outside, and of a region
    that is no object.

    Args:
      size: of the grid, cells to a side.
    """

    def __init__(self, size, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs}, autocast=False)
        self.size = size

    def call(self, rois, matched, targets, keypoints):
        joints = gather.rows(keypoints, matched)
        corner, sides = rois[..., None, :2], box_ops.center_form(rois)[1][..., None, :]
        cell = ops.floor(ops.divide_no_nan(joints[..., :2] - corner, sides) * self.size)
        cell = ops.where(joints[..., :2] == rois[..., None, 2:], self.size - 1.0, cell)  # the last edge is inside
        inside = ops.all((cell >= 0) & (cell < self.size), -1)
        counted = inside & (joints[..., 2] > 0) & (targets[..., 4] > 0)[..., None]
        return ops.stop_gradient(ops.where(counted, cell[..., 1] * self.size + cell[..., 0], -1.0))

    def get_config(self):
        return {**super().get_config(), "size": self.size}
