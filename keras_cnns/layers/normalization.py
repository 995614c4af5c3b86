"""Normalisation of papers other than by batch.

    LocalResponseNormalization   AlexNet, section 3.3 (Krizhevsky, Sutskever, Hinton, NIPS 2012)
    L2Normalize                  ParseNet, section 3.3 (Liu, Rabinovich, Berg, arXiv:1506.04579), as in SSD
"""

from keras import initializers, layers, ops, saving

register = saving.register_keras_serializable("keras_cnns")


def _window_sum(x, radius):
    """Sum of the `2 radius + 1` neighbouring channels, zero outside: `[..., C] -> [..., C]`."""
    channels = x.shape[-1]
    x = ops.pad(x, [[0, 0]] * (len(x.shape) - 1) + [[radius, radius]])
    return sum(x[..., i:i + channels] for i in range(2 * radius + 1))


@register
class LocalResponseNormalization(layers.Layer):
    """Each activation divided by the energy of its neighbouring channels. AlexNet, section 3.3.

    `x / (bias + alpha * sum of x**2 over channels c - r ... c + r)**beta`, `[..., C] -> [..., C]`, computed in
    float32 under every dtype policy. The paper's `alpha` multiplies the sum; Caffe's and Torch's the mean, so
    that their alpha is `2 r + 1` times as large for the same answer.

    Args:
      depth_radius: r, neighbours to either side; the paper's n = 5 is r = 2.
      bias, alpha, beta: the paper's k, alpha and beta.
    """

    def __init__(self, depth_radius=2, bias=2.0, alpha=1e-4, beta=0.75, **kwargs):
        super().__init__(**kwargs)
        self.depth_radius, self.bias, self.alpha, self.beta = depth_radius, bias, alpha, beta

    def call(self, inputs):
        @ops.custom_gradient  # the sum is its own transpose; TensorFlow's gradient of slices takes five times as long
        def energy(squares):
            def gradient(*arguments, upstream=None):
                return _window_sum(arguments[0] if upstream is None else upstream, self.depth_radius)
            return _window_sum(squares, self.depth_radius), gradient

        x = ops.cast(inputs, "float32")
        scale = self.bias + self.alpha * energy(x * x)
        # Two roots cost a third of a general power.
        x = x * (ops.rsqrt(scale * ops.sqrt(scale)) if self.beta == 0.75 else scale**-self.beta)
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "depth_radius": self.depth_radius, "bias": self.bias,
                "alpha": self.alpha, "beta": self.beta}


@register
class L2Normalize(layers.Layer):
    """The channels of each cell made a vector of length 1, then each channel times a learnt scale.

    `[..., C] -> [..., C]`, computed in float32 under every dtype policy; a cell of zeros stays zero. Weight: scale
    `[C]`. ParseNet, section 3.3, which begins with 10 or 20; SSD, section 3.1, with 20.

    Args:
      initial: what every channel's scale begins with.
    """

    def __init__(self, initial=20.0, **kwargs):
        super().__init__(**kwargs)
        self.initial = initial

    def build(self, input_shape):
        self.scale = self.add_weight((input_shape[-1],), initializers.Constant(self.initial), name="scale")

    def call(self, inputs):
        x = ops.cast(inputs, "float32")
        energy = ops.sum(x * x, -1, keepdims=True)
        x = x * ops.rsqrt(energy + 1e-10)  # as in the authors' code; without it zeros would have no gradient
        return ops.cast(x * ops.cast(self.scale, "float32"), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "initial": self.initial}
