"""Image captioning: a convolutional network reads a picture, a decoder writes what is in it.

- ``show_and_tell``: Vinyals, Toshev, Bengio, Erhan: Show and Tell: A Neural Image Caption
  Generator, 2015, https://arxiv.org/abs/1411.4555, section 3. The picture, as one vector, is the
  first input of an LSTM, and is never seen again. With ``backbone="alexnet"`` the vector has
  AlexNet's 4,096 features.
- ``show_attend_tell``: Xu et al.: Show, Attend and Tell: Neural Image Caption Generation with
  Visual Attention, 2015, https://arxiv.org/abs/1502.03044, sections 3 and 4.2 (deterministic "soft"
  attention). The decoder looks at the places of a feature map before each word.
- ``caption_transformer``: the decoder of Vaswani et al.: Attention Is All You Need, 2017,
  https://arxiv.org/abs/1706.03762, section 3, which looks at the places of a feature map too.

Inputs: ``image`` [B, height, width, channels] and ``target`` [B, T], int32 token ids, padding 0;
the target starts with the begin token and is the previous tokens of what is predicted.
Output: [B, T, vocabulary] float32 logits.

The backbone is any image classifier of the zoo without its last layer, or up to the map of one
stride. Vinyals et al. take GoogLeNet, Xu et al. the 14x14 map of VGG19 (stride 16).

Deviations: each place of a map is given its position, as sines and cosines of row and column
(Carion et al. 2020, https://arxiv.org/abs/2005.12872, section 3.2), without which attention hardly
tells left from right; ``positions=False`` is as published. Of Xu et al.: the readout is a maxout of
the three projections of their equation 7 instead of their sum; the states start from one layer
each; the doubly stochastic penalty is a mean over tokens, as the cross-entropy is. Neither paper
states a number of parameters.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops
from keras.config import floatx

from models.encoder_decoder import Cell, RecurrentDecoder
from models.layers.attention import AdditiveAttention
from models.layers.classifiers import classifier_builder
from models.layers.features import PREFIX, features
from models.layers.positions import sinusoidal_positions
from models.layers.reserved_tokens import PADDING
from models.transformer import Normalization, TransformerDecoder


def feature_map(
    backbone: str, input_shape: tuple[int, int, int], stride: int | None, options: Mapping[str, Any]
) -> keras.Model:
    """``image`` → one of the backbone's maps [B, height / stride, width / stride, channels].

    Args:
        backbone: the name of an image classifier of the zoo.
        input_shape: height, width and channels of a picture.
        stride: how much smaller than the picture the map is; none: as small as there is.
        options: further arguments of the backbone's builder.

    Raises:
        ValueError: where there is no such backbone, or no map of that stride.
    """
    model = _classifier(backbone, input_shape, options)
    maps = features(model).output
    name = list(maps)[-1] if stride is None else f"{PREFIX}{stride}"
    if name not in maps:
        there = ", ".join(key.removeprefix(PREFIX) for key in maps)
        raise ValueError(f"{backbone} has no map of stride {stride}; there is: {there}")
    return _up_to(model, maps[name], backbone)


def feature_vector(
    backbone: str, input_shape: tuple[int, int, int], options: Mapping[str, Any]
) -> keras.Model:
    """``image`` → what the last dense layer of the backbone reads, [B, size]; else see above."""
    model = _classifier(backbone, input_shape, options)
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    if not dense or dense[-1].input.shape[1:-1]:
        raise ValueError(f"{backbone} does not end with a dense layer")
    return _up_to(model, dense[-1].input, backbone)


def _up_to(model: keras.Model, output, name: str) -> keras.Model:
    """``image`` → one of the model's tensors; ValueError where a file left weights below it new."""
    network = keras.Model(model.input, output, name=name)
    fresh = {layer.name for layer in network.layers} & set(getattr(model, "fresh_layers", ()))
    if fresh:
        raise ValueError(f"the weights of {name} lack what is to be read: {', '.join(fresh)}")
    return network


def _classifier(
    backbone: str, input_shape: tuple[int, int, int], options: Mapping[str, Any]
) -> keras.Model:
    return classifier_builder(backbone)(input_shape=tuple(input_shape), **options)


def perceived(model: keras.Model, features: dict, training):
    """What the model's backbone makes of ``image``; ``activations``, where it was made before.

    A backbone that is ``settled`` computes in training what it computes in an answer.
    """
    if "activations" in features:
        return features["activations"]
    learning = training and not getattr(model, "settled", False)
    return model.backbone({"image": features["image"]}, training=learning)


def places(values, positions: bool):
    """A map [B, height, width, C] → [B, height · width, C], with its positions if so wished."""
    _, height, width, channels = values.shape
    if positions:
        half = channels // 2
        rows = sinusoidal_positions(ops.arange(height), half)[:, None]
        columns = sinusoidal_positions(ops.arange(width), channels - half)[None]
        shape = (height, width)
        grid = ops.concatenate(
            [
                ops.broadcast_to(rows, (*shape, half)),
                ops.broadcast_to(columns, (*shape, channels - half)),
            ],
            axis=-1,
        )
        values = values + ops.cast(grid, values.dtype)
    return ops.reshape(values, (-1, height * width, channels))


def _everywhere(values):
    """The mask of [B, S, C] places: all of them are real."""
    return ops.ones_like(values[..., 0], dtype="bool")


@keras.saving.register_keras_serializable(package="zoo")
class ShowAndTell(RecurrentDecoder):
    """The picture is the first input of the recurrent cells; see ``show_and_tell``.

    Attributes:
        grid: rows and columns of the attention: one place, which is never looked at.
    """

    grid = (1, 1)

    def __init__(
        self,
        *,
        input_shape: tuple[int, int, int],
        vocabulary_size: int,
        backbone: str,
        backbone_options: Mapping[str, Any],
        units: int,
        embedding_dim: int,
        depth: int,
        dropout: float,
        cell: str,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = feature_vector(backbone, input_shape, backbone_options)
        self.image_embedding = keras.layers.Dense(embedding_dim, name="image_embedding")
        self.add_decoder(
            target_vocabulary_size=vocabulary_size,
            units=units,
            embedding_dim=embedding_dim,
            depth=depth,
            context_size=0,
            dropout=dropout,
            cell=cell,
        )

    def build(self, input_shape=None):
        self.image_embedding.build(self.backbone.output.shape)
        self.build_decoder()

    def encode(self, features: dict, training=False) -> dict:
        """``image`` [B, height, width, channels] → see ``RecurrentDecoder.encode``."""
        vector = perceived(self, features, training)
        embedded = self.image_embedding(vector)[:, None]
        nothing = ops.zeros_like(ops.repeat(embedded[..., :1], self.units, axis=-1))
        initial = self.fed((nothing,) * self.states, embedded)
        return {
            "mask": _everywhere(embedded),
            "initial": tuple(state[:, 0] for state in initial),
        }

    def look(self, query, memory: dict):
        return query[..., :0], ops.cast(ops.zeros_like(query[..., :1]), floatx())


@keras.saving.register_keras_serializable(package="zoo")
class ShowAttendTell(RecurrentDecoder):
    """The decoder looks at the places of a map before each word; see ``show_attend_tell``.

    Attributes:
        grid: rows and columns of the map.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, int, int],
        vocabulary_size: int,
        backbone: str,
        backbone_options: Mapping[str, Any],
        stride: int | None,
        positions: bool,
        units: int,
        embedding_dim: int,
        dropout: float,
        cell: str,
        attention_penalty: float,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = feature_map(backbone, input_shape, stride, backbone_options)
        _, *self.grid, self.channels = self.backbone.output.shape
        self.positions, self.attention_penalty = positions, attention_penalty
        self.add_decoder(
            target_vocabulary_size=vocabulary_size,
            units=units,
            embedding_dim=embedding_dim,
            depth=1,
            context_size=self.channels,
            dropout=dropout,
            cell=cell,
        )
        self.attention = AdditiveAttention(units, name="attention")
        # How much of what it sees the decoder lets in (section 4.2.1).
        self.gate = keras.layers.Dense(1, activation="sigmoid", name="gate")
        self.initial_state = keras.layers.Dense(
            self.states * units, activation="tanh", name="initial_state"
        )

    def build(self, input_shape=None):
        self.build_decoder()
        values = (None, None, self.channels)
        self.attention.build((None, None, self.units), values)
        self.gate.build((None, None, self.units))
        self.initial_state.build((None, self.channels))

    def encode(self, features: dict, training=False) -> dict:
        """``image`` [B, height, width, channels] → see ``RecurrentDecoder.encode``."""
        values = perceived(self, features, training)
        values = places(values, self.positions)
        initial = self.initial_state(ops.mean(values, axis=1))
        return {
            "mask": _everywhere(values),
            "values": values,
            "keys": self.attention.keys(values),
            "initial": tuple(ops.split(initial, self.states, axis=-1)),
        }

    def look(self, query, memory: dict):
        context, weights = self.attention(query, memory["values"], memory["keys"], memory["mask"])
        return self.gate(query) * context, weights

    def looked(self, weights, target) -> None:
        """Adds the doubly stochastic penalty, λ Σ (1 - Σ_t α)² over the places (equation 14)."""
        if not self.attention_penalty:
            return
        read = ops.cast(ops.not_equal(target, PADDING), weights.dtype)
        seen = ops.sum(weights * ops.transpose(read)[..., None], axis=0)
        unequal = ops.sum(ops.square(1.0 - seen))
        self.add_loss(self.attention_penalty * unequal / ops.maximum(ops.sum(read), 1.0))


@keras.saving.register_keras_serializable(package="zoo")
class CaptionTransformer(TransformerDecoder):
    """Attention in several heads to a map; see ``caption_transformer``.

    Attributes:
        grid: rows and columns of the map.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, int, int],
        vocabulary_size: int,
        backbone: str,
        backbone_options: Mapping[str, Any],
        stride: int | None,
        positions: bool,
        dim: int,
        hidden_dim: int,
        layers: int,
        heads: int,
        dropout: float,
        normalization: Normalization,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = feature_map(backbone, input_shape, stride, backbone_options)
        _, *self.grid, self.channels = self.backbone.output.shape
        self.positions = positions
        self.add_embedding(vocabulary_size, dim)
        self.image_embedding = keras.layers.Dense(dim, name="image_embedding")
        self.add_decoder(
            hidden_dim=hidden_dim,
            layers=layers,
            heads=heads,
            dropout=dropout,
            normalization=normalization,
        )

    def build(self, input_shape=None):
        self.image_embedding.build((None, None, None, self.channels))
        self.build_decoder()

    def encode(self, features: dict, training=False) -> dict:
        """``image`` [B, height, width, channels] → see ``TransformerDecoder.encode``."""
        values = perceived(self, features, training)
        values = places(self.image_embedding(values), self.positions)
        return {"mask": _everywhere(values), "values": values}


def show_and_tell(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    vocabulary_size: int = 10_000,
    *,
    backbone: str = "googlenet",
    backbone_options: dict[str, Any] | None = None,
    weights: str | None = None,
    units: int = 512,
    embedding_dim: int = 512,
    depth: int = 1,
    dropout: float = 0.3,
    cell: Cell = "lstm",
) -> keras.Model:
    """A picture is the first word (Vinyals et al. 2015, section 3.1).

    Args:
        input_shape: height, width and channels of a picture.
        vocabulary_size: number of token ids, the reserved ones included.
        backbone: the image classifier of the zoo whose last hidden layer is the picture's vector.
        backbone_options: further arguments of its builder.
        weights: of the backbone: path of an official file, or imagenet to download it.
        units: size of each cell.
        embedding_dim: size of the embeddings of tokens and of the picture.
        depth: layers of cells.
        dropout: share of embeddings and readout that is dropped in training.
        cell: the recurrent cell.

    Returns:
        An uncompiled, built model.
    """
    return _built(ShowAndTell, "show_and_tell", **locals())


def show_attend_tell(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    vocabulary_size: int = 10_000,
    *,
    backbone: str = "vgg19",
    backbone_options: dict[str, Any] | None = None,
    weights: str | None = None,
    stride: int | None = 16,
    positions: bool = True,
    units: int = 512,
    embedding_dim: int = 512,
    dropout: float = 0.5,
    cell: Cell = "lstm",
    attention_penalty: float = 1.0,
) -> keras.Model:
    """The decoder looks at a feature map before each word (Xu et al. 2015, section 4.2).

    Args:
        input_shape: height, width and channels of a picture.
        vocabulary_size: number of token ids, the reserved ones included.
        backbone: the image classifier of the zoo that makes the map.
        backbone_options: further arguments of its builder.
        weights: of the backbone: path of an official file, or imagenet to download it.
        stride: how much smaller than the picture the map is; none: as small as there is.
        positions: whether each place of the map is given its position.
        units: size of the cell and of the attention.
        embedding_dim: size of the token embeddings.
        dropout: share of embeddings and readout that is dropped in training.
        cell: the recurrent cell.
        attention_penalty: λ, the weight of the doubly stochastic penalty, which makes each place be
            looked at once in all.

    Returns:
        An uncompiled, built model.
    """
    return _built(ShowAttendTell, "show_attend_tell", **locals())


def caption_transformer(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    vocabulary_size: int = 10_000,
    *,
    backbone: str = "resnet50",
    backbone_options: dict[str, Any] | None = None,
    weights: str | None = None,
    stride: int | None = None,
    positions: bool = True,
    dim: int = 512,
    hidden_dim: int = 2048,
    layers: int = 6,
    heads: int = 8,
    dropout: float = 0.1,
    normalization: Normalization = "pre",
) -> keras.Model:
    """The Transformer's decoder looks at a feature map (sizes of Vaswani et al. 2017, table 3).

    Args:
        input_shape: height, width and channels of a picture.
        vocabulary_size: number of token ids, the reserved ones included.
        backbone: the image classifier of the zoo that makes the map.
        backbone_options: further arguments of its builder.
        weights: of the backbone: path of an official file, or imagenet to download it.
        stride: how much smaller than the picture the map is; none: as small as there is.
        positions: whether each place of the map is given its position.
        dim: size of the model's vectors.
        hidden_dim: size of the hidden layer at each position.
        layers: blocks of the decoder.
        heads: heads of attention.
        dropout: share of each sublayer's output that is dropped in training.
        normalization: whether a sublayer's sum ("post") or its input ("pre") is normalized.

    Returns:
        An uncompiled, built model.
    """
    return _built(CaptionTransformer, "caption_transformer", **locals())


def _built(kind: type[keras.Model], name: str, *, weights: str | None, **options) -> keras.Model:
    backbone, own = options["backbone"], options["backbone_options"] or {}
    options["backbone_options"] = own
    model = kind(name=name, **options)
    model.build()
    if weights is not None:
        if "weights" not in inspect.signature(classifier_builder(backbone)).parameters:
            raise ValueError(f"no weights are published for {backbone}")
        # They are no option of the class: a trained model that is read from its file has its own.
        learned = kind(**options | {"backbone_options": {**own, "weights": weights}})
        model.backbone.set_weights(learned.backbone.get_weights())
    return model
