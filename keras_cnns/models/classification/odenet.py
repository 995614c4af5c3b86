"""ODE-Net: Neural Ordinary Differential Equations.

Chen, Rubanova, Bettencourt, Duvenaud. NeurIPS 2018, arXiv:1806.07366. The network for MNIST of section 3 and of the
authors' example with convolutional downsampling: two strided convolutions, then one layer that solves an initial
value problem with a tolerance of 1e-3. Group norm of 32 groups everywhere; time is one more channel, the first, of
the two convolutions under the integral.
"""

import math

from keras import Model, layers, ops, saving

from keras_cnns.layers import ODEBlock
from keras_cnns.models.classification import common

TASK, YEAR = "classification", 2018
PAPER = "Neural Ordinary Differential Equations, arXiv:1806.07366"

VARIANTS = {"odenet": 64}  # filters

PUBLISHED = {"odenet": "MNIST test: error 0.42 % (Table 1)"}


def group_norm(name, **options):
    return layers.GroupNormalization(32, epsilon=1e-5, name=name, **options)


@saving.register_keras_serializable("keras_cnns")
class ODEFunction(layers.Layer):
    """The slope of the state: norm, ReLU, convolution, twice, and a norm. `t, y [B, H, W, C] -> [B, H, W, C]`."""

    def __init__(self, filters, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.filters = filters
        self.norms = [group_norm(f"norm{i}", dtype="float32") for i in (1, 2, 3)]
        self.convolutions = [layers.Conv2D(filters, 3, padding="same", dtype="float32", name=f"conv{i}")
                             for i in (1, 2)]

    def build(self, t_shape, y_shape):
        for norm in self.norms:
            norm.build(y_shape)
        for convolution in self.convolutions:
            convolution.build((*y_shape[:-1], y_shape[-1] + 1))
        self.built = True

    def call(self, t, y):
        for norm, convolution in zip(self.norms, self.convolutions):
            y = ops.relu(norm(y))
            y = convolution(ops.concatenate([t * ops.ones_like(y[..., :1]), y], -1))
        return self.norms[2](y)

    def multiply_adds(self, input_shape):
        """Of one evaluation for one image `[1, H, W, C]`."""
        return sum(math.prod(input_shape[1:3]) * math.prod(c.kernel.shape) for c in self.convolutions)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


def build(name="odenet", input_shape=None, num_classes=10, classifier_activation="softmax", solver="dopri5",
          adjoint=False):
    """The network: grey pixels, 0 to 255, `[B, H, W, 1] -> [B, num_classes]`, probabilities.

    `network.get_layer("ode").solve(features)` tells how many function evaluations a batch took.

    Args:
      name: a key of `VARIANTS`.
      input_shape: `(height, width, channels)`, by default (28, 28, 1), at least 6 pixels a side; height and width may
        be None.
      num_classes: units of the classifier; None leaves the network headless, its output being "relu",
        `[B, H/4, W/4, 64]`.
      classifier_activation: "softmax", "sigmoid", or None for logits.
      solver: "dopri5", as the paper, or "rk4", four fixed steps.
      adjoint: gradients in constant memory (Appendix B); under JAX "dopri5" trains with these only.
    """
    filters = VARIANTS[name]
    inputs, x = common.pixels(input_shape, (28, 28, 1), 6, mean=(0.0,), variance=(255.0**2,))
    x = layers.Conv2D(filters, 3, name="conv1")(x)
    for i in (1, 2):
        x = layers.ReLU(name=f"relu{i}")(group_norm(f"norm{i}")(x))
        x = layers.ZeroPadding2D(1, name=f"conv{i + 1}_pad")(x)
        x = layers.Conv2D(filters, 4, 2, name=f"conv{i + 1}")(x)
    x = ODEBlock(ODEFunction(filters, name="function"), solver, adjoint=adjoint, name="ode")(x)
    x = layers.ReLU(name="relu")(group_norm("norm")(x))
    if num_classes is not None:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = common.predictions(layers.Dense(num_classes, name="fc")(x), classifier_activation)
    return Model(inputs, x, name=name)
