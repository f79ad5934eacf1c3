"""What goes into an image network: one picture of a size that the architecture permits."""

from __future__ import annotations

import keras


def picture_input(
    architecture: str, input_shape: tuple[int | None, int | None, int], smallest_side: int
) -> keras.KerasTensor:
    """The input ``image`` [batch, height, width, channels].

    Args:
        architecture: the network's name, for the message.
        input_shape: height, width and channels; a side of None is open.
        smallest_side: the least height and width, in pixels, that leave something to classify.

    Raises:
        ValueError: for a shape that is no picture's or a side below ``smallest_side``.
    """
    shape = tuple(input_shape)
    if len(shape) != 3 or not shape[-1] or shape[-1] < 1:
        raise ValueError(
            f"{architecture} reads pictures of (height, width, channels), "
            f"received input_shape={shape}"
        )
    if any(side is not None and side < smallest_side for side in shape[:2]):
        raise ValueError(
            f"{architecture} needs pictures of {smallest_side}x{smallest_side} pixels or more, "
            f"received input_shape={shape}"
        )
    return keras.Input(shape, name="image")


def halving_padding(x, size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The zeros above, below, left and right that go before a valid convolution of stride 2.

    As the authors' TensorFlow networks centre it: an even side gets one zero less in front.

    Args:
        x: the map to be padded, [batch, height, width, channels].
        size: the side of the convolution's kernel, odd.
    """
    behind = size // 2
    even = [side is None or side % 2 == 0 for side in x.shape[1:3]]
    return tuple((behind - is_even, behind) for is_even in even)
