"""A classifier slid over an image: Sermanet et al., OverFeat, ICLR 2014, arXiv:1312.6229, sections 3.3 and 3.5.

    image -> pyramid -> the classifier at every window at once -> NMS -> detections

`convolutional` makes of a classifier of fixed size a network of images of any size, which answers for all windows in
one pass: fully connected layers become convolutions, the first as large as the map it was fed with (Fig. 5), and an
average over the map one over windows of it. `detector` puts it on an image pyramid (`ops.windows`).

Of a classifier that does not pad its maps (LeNet-5) the answers are those of each window cut out and classified. Where
it does, a window cut out has zeros beside it, in the pass its neighbourhood: as in OverFeat, the answers differ.

Not as in OverFeat: no regression of boxes, no finer steps by shifted pooling (Fig. 3), NMS in place of merged boxes.
"""

from keras import Input, Model, layers, models, ops, saving

from keras_cnns.errors import InputError
from keras_cnns.ops import gather
from keras_cnns.ops import nms as nms_ops
from keras_cnns.ops import windows as window_ops

POINTWISE = (layers.Activation, layers.Dropout, layers.ReLU, layers.Softmax)  # layers of a vector that a map may have


def convolutional(network):
    """A classifier as a network of images of any size, from its own on: `[B, H, W, C] -> [B, rows, columns, K]`.

    Row i and column j answer for the window whose corner is `stride_of` times (i, j). Weights of what is fully
    connected are copies; all other layers are the classifier's.

    Raises:
      InputError: a network of no fixed size, or a layer whose answer does not belong to a window.
    """
    if len(getattr(network.output, "shape", ())) != 2 or None in network.input_shape[1:]:
        raise InputError(f"{network.name}: give a classifier of one answer and of images of a fixed size.")
    cells = []  # of the map that was made a vector

    def call(layer, *arguments, **keywords):
        (x, *_), pooled = arguments, {
            layers.GlobalAveragePooling2D: layers.AveragePooling2D, layers.GlobalMaxPooling2D: layers.MaxPooling2D}
        if type(layer) in pooled:
            return pooled[type(layer)](layer.input.shape[1:3], 1, name=layer.name)(x)
        if isinstance(layer, layers.Flatten):
            cells[:] = layer.input.shape[1:3]
            return layers.Identity(name=layer.name)(x)
        if isinstance(layer, layers.Dense):
            return _convolved(layer, x, cells)
        if len(getattr(layer.output, "shape", ())) == 2 and not isinstance(layer, POINTWISE):
            raise InputError(f"{network.name}: {layer.name} cannot slide; give a classifier whose last layers are "
                             "fully connected, or an average and a fully connected one.")
        return layer(*arguments, **keywords)

    inputs = Input((None, None, network.input_shape[3]), name="image")
    return models.clone_model(network, inputs, clone_function=lambda layer: layer, call_function=call)


def _convolved(dense, x, cells):
    kernel, *bias = dense.get_weights()
    size = (1, 1) if kernel.shape[0] == x.shape[-1] else cells
    layer = layers.Conv2D(dense.units, size, activation=dense.activation, use_bias=dense.use_bias,
                          dtype=dense.dtype_policy, name=dense.name)
    answer = layer(x)
    layer.set_weights([kernel.reshape(*size, -1, dense.units), *bias])
    return answer


def stride_of(sliding, window):
    """Pixels from window to window of what `convolutional` gave, and the classifier's `(height, width)`."""
    height, width = window
    first, last = (sliding.compute_output_shape((1, height, side, sliding.input_shape[3]))[2]
                   for side in (width, width + 1024))
    return 1024 // (last - first)


@saving.register_keras_serializable("keras_cnns")
class DecodeWindows(layers.Layer):
    """Class scores of all windows to boxes, by NMS within each class.

    Args:
      image_size, window, stride, scales: as of `ops.windows.boxes`.
      candidates: of each class this many of the highest score enter NMS.
      score_threshold: detections of this score or less are dropped. max_detections: rows of the output.
    """

    def __init__(self, image_size, window, stride, scales, score_threshold, iou_threshold, max_detections, candidates,
                 **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self._config = dict(
            image_size=image_size, window=window, stride=stride, scales=scales, score_threshold=score_threshold,
            iou_threshold=iou_threshold, max_detections=max_detections, candidates=candidates)
        self.boxes = window_ops.boxes(image_size, window, stride, scales)
        self.score_threshold, self.iou_threshold = score_threshold, iou_threshold
        self.max_detections, self.candidates = max_detections, min(candidates, len(self.boxes))

    def call(self, scores):
        """`[B, N, K] ->` dict of boxes, scores, labels, count."""
        scores, index = gather.top_k(ops.transpose(scores, (0, 2, 1)), self.candidates)  # [B, K, candidates]
        boxes = ops.take(ops.convert_to_tensor(self.boxes), index, axis=0)
        return nms_ops.class_nms(ops.transpose(boxes, (0, 2, 1, 3)), ops.transpose(scores, (0, 2, 1)),
                                 self.max_detections, self.iou_threshold, self.score_threshold)

    def get_config(self):
        return {**super().get_config(), **self._config}


def detector(network, image_size, scales=(1.0, 0.75, 0.5, 0.35, 0.25), background=None, score_threshold=0.5,
             iou_threshold=0.3, max_detections=100, candidates=400):
    """The inference graph `image [B, H, W, C] -> {boxes, scores, labels, count}` of a classifier.

    Args:
      network: a classifier of one answer; its input is the window.
      image_size: `(height, width)`, fixed. scales: by which the image is resized; where no window fits, none is.
      background: the classifier's unit that stands for no object, None if it has none. The others are labels 1...K.
      The others as of `DecodeWindows`.

    Raises:
      InputError: no window fits, or the classifier cannot slide.
    """
    sliding, window = convolutional(network), network.input_shape[1:3]
    stride = stride_of(sliding, window)
    image, answers = Input((*image_size, network.input_shape[3]), name="image"), []
    for size in window_ops.resized(image_size, scales):
        rows, columns = window_ops.places(size, window, stride)
        if rows and columns:
            x = image if size == tuple(image_size) else layers.Resizing(*size)(image)
            answer = sliding(x)[:, :rows, :columns]
            answers.append(ops.reshape(answer, (-1, rows * columns, answer.shape[-1])))
    if not answers:
        raise InputError(f"No window of {window[0]}x{window[1]} pixels fits into {image_size[0]}x{image_size[1]} "
                         f"pixels times {', '.join(map(str, scales))}; give a larger image_size, or larger scales.")
    scores = ops.concatenate(answers, 1)
    if background is not None:
        scores = ops.concatenate([scores[..., :background], scores[..., background + 1:]], -1)
    found = DecodeWindows(tuple(image_size), window, stride, tuple(scales), score_threshold, iou_threshold,
                          max_detections, candidates, name="detections")(scores)
    return Model(image, found, name=f"{network.name}_detector")
