"""What tests of several layers need."""

import keras
import numpy as np
from keras import ops


def gradient(function, x):
    """d function / d x by the backend's automatic differentiation, NumPy; `function` gives one number."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        x = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x)
        return tf.convert_to_tensor(tape.gradient(value, x)).numpy()
    if keras.backend.backend() == "jax":
        import jax

        return np.array(jax.grad(lambda x: function(x))(x))
    x = ops.convert_to_tensor(x).requires_grad_()
    function(x).backward()
    return x.grad.cpu().numpy()
