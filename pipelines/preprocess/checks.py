"""Values that are only handed on where something holds of them, in graphs too."""

from __future__ import annotations

from pipelines.engine.lazy import tensorflow as tf


def checked(value, condition, message):
    """``value``, once ``condition`` holds; else INVALID_ARGUMENT with ``message``."""
    check = tf.debugging.Assert(condition, [message])
    with tf.control_dependencies([check] if check is not None else []):  # none when eager
        return tf.identity(value)
