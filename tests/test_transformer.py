"""The Transformer: positions, attention, masks; writing step by step is teacher forcing."""

import keras
import numpy as np
import pytest
from keras import ops

from models.layers.attention import MultiHeadAttention
from models.layers.positions import sinusoidal_positions
from models.layers.reserved_tokens import BEGIN, PADDING
from models.transformer import transformer_base, transformer_tiny
from tests.conftest import run_python

SMALL = {"dim": 8, "hidden_dim": 12, "layers": 2, "heads": 2, "shared_embeddings": False}


@pytest.fixture(scope="module", params=["post", "pre"])
def model(request):
    keras.utils.set_random_seed(0)
    return transformer_tiny(20, 11, normalization=request.param, **SMALL)


@pytest.fixture(scope="module")
def batch():
    draw = np.random.default_rng(0)
    source = draw.integers(4, 20, (3, 6)).astype("int32")
    source[1, 4:] = PADDING
    target = draw.integers(4, 11, (3, 5)).astype("int32")
    target[:, 0] = BEGIN
    return {"source": source, "target": target}


def test_positions_are_the_published_ones():
    positions = np.asarray(sinusoidal_positions(ops.arange(50), 6))
    for p in (0, 1, 7, 49):
        for k in range(6):
            angle = p / 10_000 ** (2 * (k // 2) / 6)
            expected = np.sin(angle) if k % 2 == 0 else np.cos(angle)
            assert positions[p, k] == pytest.approx(expected, abs=1e-5)


def test_multi_head_attention_by_hand():
    layer = MultiHeadAttention(4, 2)
    draw = np.random.default_rng(1)
    queries, sequence = draw.normal(size=(1, 3, 4)), draw.normal(size=(1, 5, 4))
    mask = np.array([True, True, True, False, True])
    layer.build()
    Q, K, V, O = draw.normal(size=(4, 4, 4)).astype("float32")  # noqa: E741
    layer.set_weights([Q, K, V, O])
    output, weights = layer(queries, *layer.keys_values(sequence.astype("float32")), mask)
    heads = []
    for head in (slice(0, 2), slice(2, 4)):
        products = (queries[0] @ Q)[:, head] @ (sequence[0] @ K)[:, head].T / np.sqrt(2)
        exponentials = np.where(mask, np.exp(products), 0)
        expected = exponentials / exponentials.sum(1, keepdims=True)
        np.testing.assert_allclose(weights[0, len(heads)], expected, rtol=1e-4, atol=1e-6)
        heads.append(expected @ (sequence[0] @ V)[:, head])
    np.testing.assert_allclose(output[0], np.concatenate(heads, 1) @ O, rtol=1e-4, atol=1e-5)


def test_projections_are_named():
    layer = MultiHeadAttention(4, 2)
    layer.build()
    names = [weight.path.split("/")[-2] for weight in layer.weights]
    assert names == ["query", "key", "value", "output"]


def test_base_and_tiny_have_the_published_sizes():
    """By the paper's equations: 4 d² an attention, 2 d f + f + d a network, 2 d a norm."""

    def count(vocabulary, d, f, n):
        attention, network, norm = 4 * d * d, 2 * d * f + f + d, 2 * d
        return vocabulary * d + n * (3 * attention + 2 * network + 5 * norm)

    tiny = transformer_tiny().count_params()
    assert tiny == count(10_000, 128, 256, 4)
    separate = transformer_tiny(shared_embeddings=False).count_params()
    assert separate == tiny + 10_000 * 128
    pre = transformer_tiny(normalization="pre").count_params()
    assert pre == tiny + 2 * 2 * 128


def test_different_vocabularies_cannot_share_embeddings():
    with pytest.raises(ValueError, match="vocabularies of 20 and 11 tokens cannot share"):
        transformer_base(20, 11, **SMALL | {"shared_embeddings": True})


def test_padding_of_the_source_counts_for_nothing(model, batch):
    wide = batch | {"source": np.pad(batch["source"], [(0, 0), (0, 9)])}
    np.testing.assert_allclose(model(wide), model(batch), atol=1e-5)


def test_what_stands_at_padding_counts_for_nothing(model, batch):
    """Nothing but the mask tells a padded position from others: its embedding is no zero."""
    before = model.encode(batch)
    table = model.source_embedding.embeddings
    kept = np.array(table)
    table.assign(np.concatenate([kept[:1] + np.arange(8), kept[1:]]))
    after = model.encode(batch)
    table.assign(kept)
    np.testing.assert_allclose(before["values"][1, :4], after["values"][1, :4], atol=1e-5)
    assert not np.allclose(before["values"][1, 4:], after["values"][1, 4:], atol=1e-3)


def test_a_token_sees_no_later_token(model, batch):
    later = batch["target"].copy()
    later[:, 3:] = 4
    logits, changed = model(batch), model(batch | {"target": later})
    np.testing.assert_allclose(changed[:, :3], logits[:, :3], atol=1e-5)
    assert not np.allclose(changed[:, 3:], logits[:, 3:], atol=1e-3)


def test_step_by_step_is_teacher_forcing(model, batch):
    """Two hypotheses of each source, with different tokens, in a buffer that is too long."""
    other = np.where(batch["target"] == BEGIN, BEGIN, 14 - batch["target"]).astype("int32")
    forced = [np.asarray(model(batch | {"target": target})) for target in (batch["target"], other)]
    state = model.start(model.encode(batch), 2, 8)
    for position in range(5):
        tokens = np.stack([batch["target"][:, position], other[:, position]], axis=1)
        logits, state, attention = model.step(tokens, position, state)
        for row in range(2):
            np.testing.assert_allclose(logits[:, row], forced[row][:, position], atol=1e-5)
        np.testing.assert_allclose(np.sum(attention, -1), 1, atol=1e-5)
        assert not np.asarray(attention)[1, :, 4:].any()


def test_bfloat16_gives_float32_logits(batch):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = transformer_tiny(20, 11, **SMALL)
        logits = model(batch)
        step, _, _ = model.step(batch["target"][:, :1], 0, model.start(model.encode(batch), 1, 4))
    finally:
        keras.config.set_dtype_policy("float32")
    assert logits.dtype == step.dtype == "float32"
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(step[:, 0], logits[:, 0], atol=0.1)


@pytest.mark.slow
def test_jax_gives_the_same_logits(model, batch, tmp_path):
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "batch.npz", **batch)
    program = """
import sys
sys.modules["tensorflow"] = None
import keras, numpy
import models.transformer
folder = sys.argv[1]
model = keras.saving.load_model(folder + "/model.keras")
batch = dict(numpy.load(folder + "/batch.npz"))
step, _, _ = model.step(batch["target"][:, :1], 0, model.start(model.encode(batch), 1, 4))
numpy.savez(folder + "/logits.npz", forced=model(batch), step=step)
"""
    result = run_python("-c", program, tmp_path, environment={"KERAS_BACKEND": "jax"})
    assert result.returncode == 0, result.stderr
    logits = np.load(tmp_path / "logits.npz")
    np.testing.assert_allclose(logits["forced"], model(batch), atol=1e-5)
    np.testing.assert_allclose(logits["step"][:, 0], logits["forced"][:, 0], atol=1e-5)
