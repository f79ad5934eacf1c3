"""What a tf.data pipeline may run in parallel while operations are deterministic.

TensorFlow then runs every map of a pipeline one element after the other, and prefetches nothing, if
any function in it holds an operation that is registered as stateful
(``tensorflow/core/grappler/optimizers/data/make_deterministic.cc``), a Python function that does
not say otherwise among them. Nothing but the time tells.
"""

from __future__ import annotations

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

HARMLESS = {"Assert", "Print", "StatefulPartitionedCall", "If", "While"}  # there too


def serializing_operations(dataset: tf.data.Dataset) -> set[str]:
    """Names of the operations that keep the dataset from running in parallel."""
    variant = tf.data.experimental.to_variant(dataset)
    serialized = tf.raw_ops.DatasetToGraphV2(input_dataset=variant).numpy()
    functions = tf.compat.v1.GraphDef.FromString(serialized).library.function
    used = {node.op for function in functions for node in function.node_def}
    stateful = {name for name in used if (op := op_def_registry.get(name)) and op.is_stateful}
    return {name for name in stateful - HARMLESS if "Dataset" not in name}
