"""A convolution and the batch norm behind it as one convolution, for inference."""

import keras
from keras import layers, ops, saving


@saving.register_keras_serializable("keras_cnns")
class FoldedConv(layers.Layer):
    """What `bn(conv(x))` is at inference, in one pass over the map: the kernel is scaled, what is left is a bias.

    It shares the weights of both layers, so it follows when they are trained or loaded.
    """

    def __init__(self, conv, bn, **kwargs):
        super().__init__(**kwargs)
        self.conv, self.bn = conv, bn

    def call(self, x):
        conv, bn = self.conv, self.bn
        scale = bn.gamma * ops.rsqrt(bn.moving_variance + bn.epsilon)
        bias = bn.beta - bn.moving_mean * scale
        y = ops.conv(x, ops.cast(conv.kernel * scale, x.dtype), conv.strides, conv.padding)
        return ops.add(y, ops.reshape(ops.cast(bias, x.dtype), (1, 1, 1, -1)))

    def compute_output_shape(self, shape):
        return self.conv.compute_output_shape(shape)

    def get_config(self):
        parts = {key: saving.serialize_keras_object(layer) for key, layer in (("conv", self.conv), ("bn", self.bn))}
        return {**super().get_config(), **parts}

    @classmethod
    def from_config(cls, config):
        parts = {key: saving.deserialize_keras_object(config.pop(key)) for key in ("conv", "bn")}
        return cls(**parts, **config)


def folded(network):
    """The network for inference, over the same weights, each convolution X_conv, without a bias, folded with X_bn."""
    names = {layer.name: layer for layer in network.layers}
    pairs = {name: names[f"{name.removesuffix('_bn')}_conv"] for name in names
             if name.endswith("_bn") and f"{name.removesuffix('_bn')}_conv" in names}

    def call(layer, *arguments, mask=None, **keywords):
        if layer in pairs.values():
            return arguments[0]
        if layer.name in pairs:
            layer = FoldedConv(pairs[layer.name], layer, name=layer.name)
        return layer(*arguments, **keywords)

    return keras.models.clone_model(network, clone_function=lambda layer: layer, call_function=call)
