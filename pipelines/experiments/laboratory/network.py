"""A fully connected network, its gradients and its training in NumPy, nothing hidden.

Examples are rows, as in Keras, so that layer l is Z = A W + b and A' = g(Z); the courses write
examples as columns and Z = W A + b. ``neuron_by_hand`` holds the gradients against Keras's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

Loss = Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]]


def sigmoid(z: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-z)), by a form that does not overflow."""
    return 0.5 * (1 + np.tanh(z / 2))


# Activation g(z) and its derivative g'(z).
ACTIVATIONS: dict[str, tuple[Callable, Callable]] = {
    "linear": (lambda z: z, np.ones_like),
    "sigmoid": (sigmoid, lambda z: sigmoid(z) * (1 - sigmoid(z))),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "relu": (lambda z: np.maximum(z, 0), lambda z: np.where(z > 0, 1.0, 0.0)),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1.0, 0.01)),
}


def small(inputs: int) -> float:
    """The deviation of weights that begin near zero, whatever their number."""
    return 0.01


def xavier(inputs: int) -> float:
    """The deviation of weights that keeps the variance through tanh (the courses' form)."""
    return np.sqrt(1 / inputs)


def he(inputs: int) -> float:
    """The deviation of weights that keeps the variance through ReLU (He et al. 2015)."""
    return np.sqrt(2 / inputs)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """The mean of -ln softmax(logits)[label], and its derivative by the logits.

    Args:
        logits: [examples, classes].
        labels: [examples] integers.
    """
    logarithms = logits - logits.max(axis=1, keepdims=True)
    logarithms = logarithms - np.log(np.exp(logarithms).sum(axis=1, keepdims=True))
    true = np.arange(len(labels)), labels
    slope = np.exp(logarithms)
    slope[true] -= 1
    return -logarithms[true].mean(), slope / len(labels)


def squared_error(values: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    """The mean of (value - target)², and its derivative by the values, both [examples, 1]."""
    difference = values - targets
    return (difference**2).mean(), 2 * difference / difference.size


class Network:
    """Dense layers without a last activation, in float64.

    Args:
        sizes: of the input, of each hidden layer and of the output.
        seed: of the weights and of dropout.
        activation: of the hidden layers.
        deviation: number of inputs → standard deviation of a unit's first weights.
        l2: what the sum of the squares of all weights costs; λ / (2m) in the courses' terms.
        dropout: share of the hidden units that a training step leaves out.
        batch_normalization: whether hidden layers normalize Z over the mini-batch.
    """

    EPSILON = 1e-3  # of batch normalization, and
    MOMENTUM = 0.9  # of its moving averages, as in models/fully_connected.py

    def __init__(
        self,
        sizes: Sequence[int],
        seed: int,
        *,
        activation: str = "relu",
        deviation: Callable[[int], float] = he,
        l2: float = 0.0,
        dropout: float = 0.0,
        batch_normalization: bool = False,
    ) -> None:
        self.draw = np.random.default_rng(seed)
        self.activation, self.slope = ACTIVATIONS[activation]
        self.l2, self.dropout, self.batch_normalization = l2, dropout, batch_normalization
        self.weights = [
            deviation(inputs) * self.draw.standard_normal((inputs, units))
            for inputs, units in itertools.pairwise(sizes)
        ]
        self.biases = [np.zeros(units) for units in sizes[1:]]
        self.scales = [np.ones(units) for units in sizes[1:-1]]  # γ; the bias is β
        self.moving = [(np.zeros(units), np.ones(units)) for units in sizes[1:-1]]

    @property
    def parameters(self) -> list[np.ndarray]:
        """The arrays that are trained, in Keras's order: W, γ where there is one, b; by layer."""
        return self._in_order(self.weights, self.scales, self.biases)

    def _in_order(self, weights: list, scales: list, biases: list) -> list[np.ndarray]:
        found = []
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            normalized = self.batch_normalization and layer < len(scales)
            found += [weight, scales[layer], bias] if normalized else [weight, bias]
        return found

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """What the trained network answers: [examples, inputs] → [examples, outputs]."""
        return self.inputs_of_activations(x)[-1]

    def inputs_of_activations(
        self, x: np.ndarray, *, batch_statistics: bool = False
    ) -> list[np.ndarray]:
        """Z of every layer, the answer last.

        Args:
            x: [examples, inputs].
            batch_statistics: whether batch normalization takes mean and variance of these examples
                instead of its moving averages.
        """
        found, a = [], x
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            z = a @ weight
            if self.batch_normalization and layer < len(self.scales):
                mean, variance = (z.mean(0), z.var(0)) if batch_statistics else self.moving[layer]
                z = self.scales[layer] * (z - mean) / np.sqrt(variance + self.EPSILON)
            found.append(z + bias)
            a = self.activation(found[-1])
        return found

    def gradients(
        self, x: np.ndarray, y: np.ndarray, loss: Loss = cross_entropy
    ) -> tuple[float, list[np.ndarray]]:
        """The cost of a mini-batch in training, and its derivatives by ``parameters``."""
        a, inputs, sums, kept, normalized = x, [], [], [], []
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            inputs.append(a)
            z = a @ weight
            if self.batch_normalization and layer < len(self.scales):
                z, deviation = self._normalize(layer, z)
                normalized.append((z, deviation))
                z = self.scales[layer] * z
            z = z + bias
            sums.append(z)
            a = self.activation(z)
            kept.append(self._kept(a.shape) if layer < len(self.scales) else 1.0)
            a = a * kept[-1]
        cost, dz = loss(sums[-1], y)
        cost += self.l2 * sum((weight**2).sum() for weight in self.weights)
        d_weights, d_scales, d_biases = [], [], []
        for layer in reversed(range(len(self.weights))):
            if layer < len(self.scales):  # a hidden layer, from its A back to its Z
                dz = (dz @ self.weights[layer + 1].T) * kept[layer] * self.slope(sums[layer])
            d_biases.insert(0, dz.sum(axis=0))
            if self.batch_normalization and layer < len(self.scales):
                z, deviation = normalized[layer]
                d_scales.insert(0, (dz * z).sum(axis=0))
                dz = dz * self.scales[layer]
                dz = (dz - dz.mean(axis=0) - z * (dz * z).mean(axis=0)) / deviation
            d_weights.insert(0, inputs[layer].T @ dz + 2 * self.l2 * self.weights[layer])
        return cost, self._in_order(d_weights, d_scales, d_biases)

    def _normalize(self, layer: int, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Z with mean 0 and variance 1 over the mini-batch, and the deviation it had."""
        statistics = z.mean(axis=0), z.var(axis=0)
        self.moving[layer] = tuple(
            self.MOMENTUM * old + (1 - self.MOMENTUM) * new
            for old, new in zip(self.moving[layer], statistics, strict=True)
        )
        deviation = np.sqrt(statistics[1] + self.EPSILON)
        return (z - statistics[0]) / deviation, deviation

    def _kept(self, shape: tuple[int, int]) -> np.ndarray | float:
        """What inverted dropout multiplies activations by."""
        if not self.dropout:
            return 1.0
        return (self.draw.random(shape) >= self.dropout) / (1 - self.dropout)

    def error(self, x: np.ndarray, labels: np.ndarray) -> float:
        """The share of examples whose largest logit is not the true one."""
        return float((self(x).argmax(axis=1) != labels).mean())


class GradientDescent:
    """W := W - α dW."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def update(self, parameters: list[np.ndarray], gradients: list[np.ndarray]) -> None:
        """Changes the parameters in place."""
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter[...] -= self.rate * gradient


class Adam:
    """Kingma and Ba 2015, https://arxiv.org/abs/1412.6980, algorithm 1."""

    def __init__(
        self, rate: float, *, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8
    ) -> None:
        self.rate, self.beta_1, self.beta_2, self.epsilon = rate, beta_1, beta_2, epsilon
        self.steps = 0
        self.means: list[np.ndarray] = []
        self.squares: list[np.ndarray] = []

    def update(self, parameters: list[np.ndarray], gradients: list[np.ndarray]) -> None:
        """Changes the parameters in place."""
        if not self.steps:
            self.means = [np.zeros_like(parameter) for parameter in parameters]
            self.squares = [np.zeros_like(parameter) for parameter in parameters]
        self.steps += 1
        for parameter, gradient, mean, square in zip(
            parameters, gradients, self.means, self.squares, strict=True
        ):
            mean[...] += (1 - self.beta_1) * (gradient - mean)
            square[...] += (1 - self.beta_2) * (gradient**2 - square)
            unbiased = square / (1 - self.beta_2**self.steps)
            step = mean / (1 - self.beta_1**self.steps) / (np.sqrt(unbiased) + self.epsilon)
            parameter[...] -= self.rate * step


def descent(
    network: Network,
    x: np.ndarray,
    y: np.ndarray,
    rule: GradientDescent | Adam,
    *,
    epochs: int,
    batch_size: int | None = None,
    loss: Loss = cross_entropy,
    seed: int = 0,
) -> Iterator[float]:
    """Trains a network; yields the cost of each mini-batch, the step that it led to being done.

    Args:
        network: what is trained.
        x: [examples, inputs].
        y: labels or targets, as ``loss`` takes them.
        rule: how a gradient becomes a step.
        epochs: passes over the examples, each in an order of its own.
        batch_size: examples of a step; None: all.
        loss: what is minimized.
        seed: of the orders.
    """
    draw, size = np.random.default_rng(seed), batch_size or len(x)
    for _ in range(epochs):
        order = draw.permutation(len(x))
        for start in range(0, len(x), size):
            rows = order[start : start + size]
            cost, gradients = network.gradients(x[rows], y[rows], loss)
            rule.update(network.parameters, gradients)
            yield cost


def train(network: Network, x: np.ndarray, y: np.ndarray, rule, **options) -> list[float]:
    """``descent`` to its end: the costs of all steps."""
    return list(descent(network, x, y, rule, **options))
