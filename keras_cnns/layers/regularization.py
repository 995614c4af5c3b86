"""Regularisation by leaving out parts of a network.

    StochasticDepth   Deep Networks with Stochastic Depth, section 3 (Huang et al., ECCV 2016, arXiv:1603.09382)
"""

import math

import keras
from keras import layers, ops, saving

from keras_cnns.errors import InputError

register = saving.register_keras_serializable("keras_cnns")


@register
class StochasticDepth(layers.Layer):
    """A residual branch that training leaves out by chance, for the whole batch. Section 3.

    `shortcut + b F(x)` in training, b = 1 with probability `survival`, else 0, and the branch is not computed:
    neither forward nor backward, nor do its statistics move. At test `shortcut + survival F(x)`. The shortcut
    is `x` itself unless given. Replicas throw dice of their own.

    Args:
      branch: the layer or network F, of one input and one output with the shortcut's shape.
      survival: p_l of the paper, 0 < p_l <= 1; 1 is a plain residual branch.
      seed: of the dice.
    """

    def __init__(self, branch, survival, seed=None, **kwargs):
        # Without a cast: the branch gets its own weights, not halved ones, and casts its input by its own policy.
        super().__init__(autocast=False, **kwargs)
        if not 0.0 < survival <= 1.0:
            raise InputError(f"survival={survival}: give a probability above 0 and up to 1, such as 0.5.")
        self.branch, self.survival, self.seed = branch, survival, seed
        self.dice = keras.random.SeedGenerator(seed)

    def build(self, x_shape, shortcut_shape=None):
        if not self.branch.built:
            self.branch.build(x_shape)
        self.built = True

    def call(self, x, shortcut=None, training=None):
        shortcut = x if shortcut is None else shortcut
        if not training or self.survival == 1.0:
            return shortcut + self.survival * self.branch(x, training=bool(training))
        # Variables must not be assigned within the condition (strategies with replicas forbid it, and JAX has
        # none): the branch hands out what they should become.
        trainable = [v.value for v in self.branch.trainable_variables]
        state = [v.value for v in self.branch.non_trainable_variables]

        def survives():
            y, moved = self.branch.stateless_call(trainable, state, x, training=True)
            return [shortcut + y, *moved]

        survived = keras.random.uniform((), seed=self.dice) < self.survival
        y, *state = ops.cond(survived, survives, lambda: [shortcut, *map(ops.convert_to_tensor, state)])
        for variable, value in zip(self.branch.non_trainable_variables, state):
            variable.assign(value)
        return y

    def compute_output_shape(self, x_shape, shortcut_shape=None):
        return shortcut_shape or x_shape

    def multiply_adds(self, input_shape):
        """Of the branch's convolutions and dense layers for one image; the branch is a chain of layers."""
        total, shape = 0, (1, *input_shape[1:])
        for layer in self.branch.layers:
            if not isinstance(layer, layers.InputLayer):
                shape = layer.compute_output_shape(shape)
                if hasattr(layer, "kernel"):
                    total += math.prod(shape[:-1]) * math.prod(layer.kernel.shape)
        return total

    def get_config(self):
        return {**super().get_config(), "branch": saving.serialize_keras_object(self.branch),
                "survival": self.survival, "seed": self.seed}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "branch": saving.deserialize_keras_object(config["branch"])})
