"""Differential equations as layers.

    ODEBlock   Neural Ordinary Differential Equations (Chen, Rubanova, Bettencourt, Duvenaud, NeurIPS 2018,
               arXiv:1806.07366), section 3; the constant-memory gradient: Appendix B

The solvers are pure functions. They integrate `dy/dt = function(t, y)` from t = 0 to 1, y being a list of float32
tensors and `function` giving a list of the same shapes; another interval is a matter of scaling t. Each answers
`(y at 1, function evaluations)`.
"""

from typing import NamedTuple

import keras
from keras import layers, ops, saving

from keras_cnns.errors import InputError

register = saving.register_keras_serializable("keras_cnns")


class Tableau(NamedTuple):
    """An explicit Runge-Kutta method: stages after the first, their times and rows, and what they add up to."""
    nodes: tuple
    rows: tuple
    weights: tuple
    error: tuple = ()  # less the weights of the embedded method; its last stage is at the new point


RK4 = Tableau(
    nodes=(1 / 2, 1 / 2, 1),
    rows=((1 / 2,), (0, 1 / 2), (0, 0, 1)),
    weights=(1 / 6, 1 / 3, 1 / 3, 1 / 6))

DOPRI5 = Tableau(  # Dormand and Prince 1980: of order 5 with an embedded 4
    nodes=(1 / 5, 3 / 10, 4 / 5, 8 / 9, 1),
    rows=((1 / 5,),
          (3 / 40, 9 / 40),
          (44 / 45, -56 / 15, 32 / 9),
          (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
          (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656)),
    weights=(35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    error=(71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40))

SAFETY, SMALLEST_FACTOR, LARGEST_FACTOR = 0.9, 0.2, 10.0  # of a step to the next, as in the authors' torchdiffeq


def _sum(weights, slopes):
    """Weighted sums of the slopes' parts."""
    return [sum(w * part for w, part in zip(weights, parts) if w) for parts in zip(*slopes)]


def _step(function, t, h, y, slope, table):
    """One step of length `h` from `t`, where the slope is known: the new point and the slopes of all stages."""
    slopes = [slope]
    for node, row in zip(table.nodes, table.rows):
        slopes.append(function(t + node * h, [a + h * b for a, b in zip(y, _sum(row, slopes))]))
    return [a + h * b for a, b in zip(y, _sum(table.weights, slopes))], slopes


def fixed_steps(function, y, steps, table=RK4):
    """`steps` equal steps, unrolled: every backend differentiates them."""
    for i in range(steps):
        y, _ = _step(function, i / steps, 1 / steps, y, function(i / steps, y), table)
    return y, steps * len(table.weights)


def _rms(parts, scales):
    """The largest root mean square of the parts, each in units of its scale."""
    return ops.max(ops.stack([ops.sqrt(ops.mean(ops.square(a / b))) for a, b in zip(parts, scales)]))


def _first_step(function, y, slope, rtol, atol):
    """A step that ought to be about right (Hairer, Norsett, Wanner: Solving ODEs I, II.4); takes one evaluation."""
    scales = [atol + rtol * ops.abs(a) for a in y]
    size, speed = _rms(y, scales), _rms(slope, scales)
    h = ops.where((size < 1e-5) | (speed < 1e-5), 1e-6, 0.01 * size / ops.maximum(speed, 1e-5))
    ahead = function(h, [a + h * b for a, b in zip(y, slope)])
    bend = _rms([b - a for a, b in zip(slope, ahead)], scales) / h
    largest = ops.maximum(speed, bend)
    h1 = ops.where(largest <= 1e-15, ops.maximum(1e-6, h * 1e-3), (0.01 / ops.maximum(largest, 1e-15))**0.2)
    return ops.minimum(100.0 * h, h1)


def adaptive_steps(function, y, rtol, atol, max_steps=1000):
    """Dormand-Prince steps as long as the estimated error allows, one length for the whole batch.

    A step stands when the error's root mean square, in units of `atol + rtol |y|`, is at most 1. The last step ends
    at 1 exactly. Where `max_steps` do not suffice the answer is NaN, not a wrong number. Step lengths are constants
    to the gradient. JAX has no reverse gradient of such a loop.
    """
    n = len(y)
    slope = function(0.0, y)
    h = ops.stop_gradient(_first_step(function, y, slope, rtol, atol))

    def unfinished(t, h, tries, *state):
        return t < 1.0

    def advance(t, h, tries, *state):
        y, slope = list(state[:n]), list(state[n:])
        last = h >= 1.0 - t
        h = ops.where(last, 1.0 - t, h)
        new, slopes = _step(function, t, h, y, slope, DOPRI5)
        slopes.append(function(t + h, new))
        scales = [atol + rtol * ops.maximum(ops.abs(a), ops.abs(b)) for a, b in zip(y, new)]
        error = ops.stop_gradient(_rms([h * e for e in _sum(DOPRI5.error, slopes)], scales))
        stands = error <= 1.0
        error = ops.where(ops.isfinite(error), ops.maximum(error, 1e-10), 1e10)
        factor = ops.clip(SAFETY * error**-0.2, SMALLEST_FACTOR, LARGEST_FACTOR)
        factor = ops.where(stands, ops.maximum(factor, 1.0), factor)
        state = [ops.where(stands, b, a) for a, b in zip(y + slope, new + slopes[-1])]
        t = ops.where(stands, ops.where(last, 1.0, t + h), t)
        return (t, h * factor, tries + 1, *state)

    start = (ops.zeros((), "float32"), h, ops.zeros((), "int32"), *y, *slope)
    t, _, tries, *state = ops.while_loop(unfinished, advance, start, maximum_iterations=max_steps)
    return [ops.where(t >= 1.0, a, float("nan")) for a in state[:n]], 2 + 6 * tries


def _value_and_vjp(function, arguments, cotangent):
    """`function(*arguments)` and the cotangent times its Jacobians: what Keras has no word for."""
    if keras.backend.backend() == "jax":
        import jax

        value, pull = jax.vjp(function, *arguments)
        return value, pull(cotangent)
    if keras.backend.backend() == "torch":
        import torch

        value, pull = torch.func.vjp(function, *arguments)
        return value, pull(cotangent)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(arguments)
        value = function(*arguments)
    return value, tape.gradient(value, arguments, cotangent, unconnected_gradients="zero")


def adjoint(function, y, weights, solve):
    """Integrates, and gets the gradient by integrating back (Appendix B): memory does not grow with the steps.

    The state y(1), its gradient and the weights' run from t = 1 to 0 together. The gradient is brought to a largest
    value of 1 first, since its equation is linear and the solver's tolerances are not: else the gradient of a loss
    that is a mean, or scaled for half precision, would be solved too coarsely, or too finely.

    Args:
      function: `(t, y, weights) -> dy/dt`, of tensors; it must not read variables.
      y, weights: a tensor and a list of tensors, float32, for which the answer has gradients.
      solve: one of the solvers above as `(function, list of parts) -> (list of parts, evaluations)`.
    """
    @ops.custom_gradient
    def integrate(y, *weights):
        (end,), _ = solve(lambda t, parts: [function(t, parts[0], weights)], [y])

        def gradient(*arguments, upstream=None):
            upstream = arguments[0] if upstream is None else upstream

            def backwards(s, parts):  # s = 1 - t
                slope, pulled = _value_and_vjp(lambda y, *weights: function(1.0 - s, y, weights),
                                               (parts[0], *weights), parts[1])
                return [-slope, *pulled]

            scale = ops.maximum(ops.max(ops.abs(upstream)), 1e-30)
            (_, *gradients), _ = solve(backwards, [end, upstream / scale, *map(ops.zeros_like, weights)])
            return tuple(scale * g for g in gradients)

        return end, gradient

    return integrate(y, *weights)


@register
class ODEBlock(layers.Layer):
    """The state at t = 1 of `dy/dt = function(t, y)` that begins at t = 0 with the input. Section 3.

    `[B, ...] -> [B, ...]`, integrated in float32 under every dtype policy.

    Gradients: by default through the solver's steps, which keeps them all in memory. `solver="dopri5"` then trains
    under TensorFlow without XLA, as its loop has no length beforehand, and under torch; under JAX, which has no reverse
    gradient of such loops, training it needs `adjoint=True`. "rk4" trains everywhere either way. Both convert to
    TFLite with built-in ops.

    Args:
      function: a layer or network called as `function(t, y)`, t a number and y as the input; its answer has y's
        shape. Give it dtype "float32". What it has of statistics does not move: the paper's is group norm.
      solver: "dopri5", adaptive steps that keep to `rtol` and `atol`, or "rk4", as many as `steps`.
      rtol, atol: error of a step allowed relative to the state's size, and in its own unit.
      adjoint: gradients by integrating back, in constant memory, exact up to the solver's error.
    """

    def __init__(self, function, solver="dopri5", rtol=1e-3, atol=1e-3, steps=4, adjoint=False, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        if solver not in ("dopri5", "rk4"):
            raise InputError(f"solver={solver!r}: choose from 'dopri5', 'rk4'.")
        self.function, self.solver, self.adjoint = function, solver, adjoint
        self.rtol, self.atol, self.steps = rtol, atol, steps
        self.supports_jit = adjoint or solver == "rk4"

    def build(self, input_shape):
        if not self.function.built:
            self.function.build((), input_shape)
        self.built = True

    def _solve(self, function, y):
        if self.solver == "rk4":
            return fixed_steps(function, y, self.steps)
        return adaptive_steps(function, y, self.rtol, self.atol)

    def _slope(self, t, y, weights):
        state = [v.value for v in self.function.non_trainable_variables]
        return self.function.stateless_call(list(weights), state, ops.convert_to_tensor(t, "float32"), y)[0]

    def _weights(self):
        return [ops.convert_to_tensor(v.value) for v in self.function.trainable_variables]

    def solve(self, y):
        """`[B, ...] -> (the layer's answer, how often the function was evaluated for it, int32)`."""
        weights = self._weights()
        (y,), evaluations = self._solve(lambda t, parts: [self._slope(t, parts[0], weights)],
                                        [ops.convert_to_tensor(y, "float32")])
        return y, evaluations

    def call(self, y, training=None):
        if self.adjoint:
            return adjoint(self._slope, y, self._weights(), self._solve)
        if training and self.solver == "dopri5" and keras.backend.backend() == "jax":
            raise InputError("solver='dopri5' with adjoint=False cannot train under JAX, which has no reverse gradient "
                             "of an adaptive loop: give adjoint=True or solver='rk4'.")
        return self.solve(y)[0]

    def compute_output_shape(self, input_shape):
        return input_shape

    def multiply_adds(self, input_shape):
        """Of one evaluation of the function for one image; the function says it by a method of the same name."""
        return self.function.multiply_adds(input_shape)

    def get_config(self):
        return {**super().get_config(), "function": saving.serialize_keras_object(self.function),
                "solver": self.solver, "rtol": self.rtol, "atol": self.atol, "steps": self.steps,
                "adjoint": self.adjoint}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "function": saving.deserialize_keras_object(config["function"])})
