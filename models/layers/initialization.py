"""How weights begin."""

from __future__ import annotations

from typing import Literal

from keras import initializers

Initialization = Literal["zeros", "small", "he", "xavier", "glorot"]


def initializer(name: Initialization) -> initializers.Initializer:
    """A new initializer; one that draws gives every weight of a shape the same values.

    Args:
        name: zeros; normal with deviation 0.01 (small); or normal with variance 2 / inputs (he: He
            et al. 2015, https://arxiv.org/abs/1502.01852), 1 / inputs (xavier, as courses teach it)
            or 2 / (inputs + outputs) (glorot: Glorot and Bengio 2010, equation 16, whose draws are
            uniform).
    """
    if name == "zeros":
        return initializers.Zeros()
    if name == "small":
        return initializers.RandomNormal(stddev=0.01)
    variance, mode = {"he": (2, "fan_in"), "xavier": (1, "fan_in"), "glorot": (1, "fan_avg")}[name]
    return initializers.VarianceScaling(variance, mode, "untruncated_normal")
