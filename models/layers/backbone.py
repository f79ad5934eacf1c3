"""A classifier in two parts: the backbone, which may serve other classes too, and the head."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable(package="zoo")
class InferenceMode(keras.layers.Layer):
    """A network that computes in training what it computes in an answer.

    Normalisation keeps its statistics and nothing is left out, whether the weights are trained or
    not: a few examples of other classes would spoil the statistics of many.

    Args:
        network: what to run.
    """

    def __init__(self, network: keras.Model, **kwargs):
        super().__init__(**kwargs)
        self.network = network

    def call(self, inputs):
        return self.network(inputs, training=False)


def backbone_and_head(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Cuts a classifier in front of the last layer with weights; both parts share its layers.

    A model that has a ``backbone`` of its own, as captioners have, stays whole: it is its head too,
    which reads ``activations`` in the place of what its backbone reads.

    Dropout in front of that layer belongs to the head, and so do layers that a file of official
    weights left as they were.

    Args:
        model: a functional classifier, which can be cut once, or one with a ``backbone``.

    Returns:
        the backbone, from the classifier's inputs to a tensor [batch, ...], and the head, from that
        tensor to what the classifier answers.

    Raises:
        ValueError: where the last layers are no chain.
    """
    if isinstance(own := getattr(model, "backbone", None), keras.Model):
        return own, model
    made_by = {id(layer.output): layer for layer in model.operations}
    untrained = set(getattr(model, "fresh_layers", ()))
    tensor, chain = model.output, []

    def complete() -> bool:
        whole = any(layer.weights for layer in chain) and untrained <= {own.name for own in chain}
        return whole and not isinstance(made_by[id(tensor)], keras.layers.Dropout)

    while not complete():
        layer = made_by[id(tensor)]
        if not isinstance(layer.input, keras.KerasTensor):
            raise ValueError(f"{model.name} has no backbone: {layer.name} is no link of a chain")
        chain.append(layer)
        tensor = layer.input
    x = inputs = keras.Input(tensor.shape[1:], name="activations")
    for layer in reversed(chain):
        x = layer(x)
    head = keras.Model({"activations": inputs}, x, name="head")
    return keras.Model(model.input, tensor, name="backbone"), head
