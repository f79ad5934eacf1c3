"""Bahdanau attention and the translation task: masks, reloading, teacher forcing, scores."""

import json
import pathlib
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.encoder_decoder import bahdanau_attention
from models.layers.attention import AdditiveAttention
from models.layers.reserved_tokens import BEGIN, END, PADDING
from pipelines.arrange.translation import arrange
from pipelines.engine.application import UserError
from pipelines.machine_translation import score, translate
from pipelines.preprocess.text import TranslationPreprocessor
from pipelines.tasks.task import Evaluation
from pipelines.tasks.translation import Translation
from pipelines.tasks.writing import SmoothedCrossentropy, hits
from tests.conftest import run_python


def parameter_count(source, target, units, embedding):
    """GRU with reset_after (two biases), as Keras counts it; no biases in the attention."""

    def gru(inputs):
        return 3 * units * (inputs + units + 2)

    attention = units * units + 2 * units * units + units
    initial = units * (units + 1)
    readout = 2 * units * (embedding + 3 * units + 1)
    return (
        (source + target) * embedding
        + 2 * gru(embedding)
        + gru(embedding + 2 * units)
        + attention
        + initial
        + readout
        + target * (units + 1)
    )


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return bahdanau_attention(20, 10, units=7, embedding_dim=5, dropout=0.1)


@pytest.fixture(scope="module")
def batch():
    draw = np.random.default_rng(0)
    source = draw.integers(4, 20, (3, 6)).astype("int32")
    source[1, 4:] = PADDING
    target = draw.integers(4, 10, (3, 5)).astype("int32")
    target[:, 0] = BEGIN
    return {"source": source, "target": target}


def test_parameter_count(model):
    assert model.count_params() == parameter_count(20, 10, 7, 5)
    assert bahdanau_attention().count_params() == parameter_count(30_000, 30_000, 64, 64)


def test_logits_and_gradients(model, batch):
    with tf.GradientTape() as tape:
        logits = model(batch)
        loss = tf.reduce_sum(logits**2)
    assert logits.shape == (3, 5, 10)
    assert logits.dtype == "float32"
    for weight, gradient in zip(
        model.trainable_weights,
        tape.gradient(loss, [weight.value for weight in model.trainable_weights]),
        strict=True,
    ):
        assert np.any(tf.convert_to_tensor(gradient)), weight.path


def test_padding_of_the_source_counts_for_nothing(model, batch):
    wide = batch | {"source": np.pad(batch["source"], [(0, 0), (0, 9)])}
    np.testing.assert_allclose(model(wide), model(batch), atol=1e-5)


def test_a_token_sees_no_later_token(model, batch):
    later = batch["target"].copy()
    later[:, 3:] = 4
    np.testing.assert_allclose(
        model(batch | {"target": later})[:, :3], model(batch)[:, :3], atol=1e-6
    )


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_reloaded_model_is_the_same(cell, batch, tmp_path):
    model = bahdanau_attention(20, 10, units=7, embedding_dim=5, cell=cell)
    model.save(tmp_path / "model.keras")
    reloaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(reloaded(batch), model(batch))


def test_bfloat16_gives_float32_logits(batch):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        logits = bahdanau_attention(20, 10, units=7, embedding_dim=5)(batch)
    finally:
        keras.config.set_dtype_policy("float32")
    assert logits.dtype == "float32"
    assert np.isfinite(logits).all()


def test_jax_gives_the_same_logits(model, batch, tmp_path):
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "batch.npz", **batch)
    program = """
import sys
sys.modules["tensorflow"] = None
import keras, numpy
import models.encoder_decoder
folder = sys.argv[1]
model = keras.saving.load_model(folder + "/model.keras")
numpy.save(folder + "/logits.npy", model(dict(numpy.load(folder + "/batch.npz"))))
"""
    result = run_python("-c", program, tmp_path, environment={"KERAS_BACKEND": "jax"})
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), model(batch), atol=1e-5)


def test_additive_attention_by_hand():
    layer = AdditiveAttention(2)
    queries, values = np.array([[[1.0, 2.0], [0.5, -1.0]]]), np.array([[[1.0], [3.0], [9.0]]])
    mask = np.array([[True, True, False]])
    layer(queries, values, np.zeros((1, 3, 2)), mask)
    W, U, v = np.array([[0.1, 0.2], [0.3, 0.4]]), np.array([[0.5, -0.5]]), np.array([[1.0], [2.0]])
    layer.set_weights([W, U, v])
    contexts, weights = layer(queries, values, layer.keys(values), mask)
    for row, query in enumerate(queries[0]):
        scores = (np.tanh(query @ W + values[0] @ U) @ v)[:2, 0]
        expected = np.exp(scores) / np.exp(scores).sum()
        np.testing.assert_allclose(weights[0, row], [*expected, 0], rtol=1e-5)
        np.testing.assert_allclose(contexts[0, row], [expected @ [1, 3]], rtol=1e-5)


def sequences(count, batch_size):
    """Batches as the engine makes them: ragged ids of many lengths, with epoch and index."""
    draw = np.random.default_rng(3)
    rows = [[*draw.integers(4, 20, draw.integers(0, 12)), END] for _ in range(count)]
    ids = tf.ragged.constant(rows, dtype=tf.int32)
    return (
        tf.data.Dataset.range(count)
        .batch(batch_size)
        .map(
            lambda index: {
                "features": {"source": tf.gather(ids, index)},
                "target": tf.gather(ids, count - 1 - index),
                "index": index,
                "epoch": tf.zeros_like(index),
            }
        )
    )


def arranged(training, seed=0, **options):
    dataset = arrange(
        sequences(103, 8), None, training=training, seed=seed, batch_size=8, **options
    )
    return list(dataset.as_numpy_iterator())


def test_teacher_forcing():
    for batch in arranged(training=False, pad_to=4):
        given, target = batch["features"]["target"], batch["target"]
        assert (given[:, 0] == BEGIN).all()
        np.testing.assert_array_equal(given[:, 1:], target[:, :-1])
        np.testing.assert_array_equal(batch["weight"], target != PADDING)
        assert ((target == END).sum(1) == 1).all()
        assert target.shape[1] % 4 == batch["features"]["source"].shape[1] % 4 == 0


def test_buckets_hold_every_example_once_with_less_padding():
    plain, bucketed = arranged(training=False), arranged(training=True, bucket_batches=5)

    def size(batches):
        return sum(batch["target"].size + batch["features"]["source"].size for batch in batches)

    order = np.concatenate([batch["index"] for batch in bucketed])
    assert sorted(order) == list(range(103))
    assert sorted(len(b["index"]) for b in bucketed) == sorted(len(b["index"]) for b in plain)
    assert size(bucketed) < size(plain)
    again, other = (
        np.concatenate([b["index"] for b in arranged(True, seed, bucket_batches=5)])
        for seed in (0, 1)
    )
    np.testing.assert_array_equal(again, order)
    assert (other != order).any()


def test_batches_of_equally_many_tokens():
    batches = arranged(training=True, bucket_batches=5, tokens_per_batch=60)
    assert sorted(np.concatenate([batch["index"] for batch in batches])) == list(range(103))
    tokens = [int(batch["weight"].sum()) for batch in batches]
    assert max(tokens) <= 60 + 12  # at most one sequence more
    assert min(tokens) >= 30
    assert len({len(batch["index"]) for batch in batches}) > 2
    single = arranged(training=True, bucket_batches=1, tokens_per_batch=60)
    assert sorted(np.concatenate([batch["index"] for batch in single])) == list(range(103))
    with pytest.raises(UserError, match=r"--arrange\.tokens_per_batch must be at least 1"):
        arranged(training=True, tokens_per_batch=0)


def test_a_sequence_longer_than_a_batch_s_tokens_is_a_batch():
    batches = arranged(training=True, bucket_batches=2, tokens_per_batch=1)
    assert sorted(np.concatenate([batch["index"] for batch in batches])) == list(range(103))
    assert all(len(batch["index"]) for batch in batches)


def test_padding_weighs_nothing_in_loss_and_metric(model, batch):
    target = np.array([[4, 5, END, 0, 0], [4, END, 0, 0, 0], [6, 7, 8, 9, END]], "int32")
    weight = (target != PADDING).astype("float32")
    model.compile(**Translation().compile_arguments())
    measured = model.evaluate(batch, target, sample_weight=weight, verbose=0, return_dict=True)
    probabilities = keras.ops.convert_to_numpy(keras.ops.log_softmax(model(batch)))
    picked = np.take_along_axis(probabilities, target[..., None], -1)[..., 0]
    right = probabilities.argmax(-1) == target
    assert measured["loss"] == pytest.approx(-(picked * weight).sum() / weight.sum(), rel=1e-5)
    assert measured["token_accuracy"] == pytest.approx((right * weight).sum() / weight.sum())


def test_smoothed_loss_is_the_cross_entropy_of_smoothed_targets():
    logits = np.random.default_rng(0).normal(size=(3, 4, 6)).astype("float32")
    target = np.random.default_rng(1).integers(0, 6, (3, 4))
    for smoothing in (0.0, 0.1):
        loss = SmoothedCrossentropy(smoothing, reduction=None)(target, logits)
        smoothed = (1 - smoothing) * np.eye(6)[target] + smoothing / 6
        expected = keras.losses.categorical_crossentropy(smoothed, logits, from_logits=True)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_token_accuracy_is_the_weighted_share_of_argmaxes():
    draw = np.random.default_rng(0)
    metric = Translation().compile_arguments()["weighted_metrics"][0]
    counted = right = 0.0
    for length in (4, 7):  # batches of different lengths: a mean over tokens, not over batches
        logits = draw.normal(size=(3, length, 9)).astype("float32")
        best = logits.argmax(-1)
        target = np.where(draw.random(best.shape) < 0.6, best, draw.integers(0, 9, best.shape))
        weight = draw.integers(0, 3, best.shape).astype("float32")
        metric.update_state(target.astype("int32"), logits, sample_weight=weight)
        counted, right = counted + weight.sum(), right + (weight * (target == best)).sum()
    assert metric.name == "token_accuracy"
    assert float(metric.result()) == pytest.approx(right / counted)


def test_a_tie_is_a_hit_and_among_nan_there_is_none():
    logits = np.array([[1, 2, 2], [1, 2, 2], [1, 2, 2], [np.nan] * 3], "float32")
    assert np.asarray(hits(np.array([1, 2, 0, 0]), logits)).tolist() == [True, True, False, False]


def test_scores_are_sacrebleu_s_of_raw_text():
    answers = {"texts": [[b"The cat sat on the mat."], [b"A dog barks loudly at me."]]}
    examples = {"target": [b"The cat sat on the mat.", b"The dog barks loudly at him."]}
    scores = Translation().scores(answers, examples)
    # By hand: how many unigrams to four-grams are in the reference; no brevity penalty.
    precisions = [12 / 14, 9 / 12, 7 / 10, 5 / 8]
    assert scores.values["bleu"] == pytest.approx(100 * np.prod(precisions) ** 0.25)
    assert scores.values["exact_match"] == 0.5
    assert 50 < scores.values["chrf"] < 100
    assert scores.errors.tolist() == [0, 1]


def test_the_figure_that_matters_most_comes_first():
    words, phrases = ([b"2005-04-03", b"1999-12-31"], [b"a cat", b"the mat"])
    for target, first in ((words, "exact_match"), (phrases, "bleu")):
        answers = {"texts": [[text] for text in target]}
        scores = Translation().scores(answers, {"target": target})
        assert next(iter(scores.values)) == next(iter(scores.summed)) == first


def test_token_accuracy_and_perplexity_leave_out_padding_and_smoothing(model, batch):
    target = np.array([[4, 5, END, 0, 0], [4, END, 0, 0, 0], [6, 7, 8, 9, END]], "int32")
    task = Translation(label_smoothing=0.3)
    assessed = {n: np.asarray(v) for n, v in task.assess(model, batch, target).items()}
    assert assessed["reference_tokens"].tolist() == [3, 2, 5]
    texts = {"texts": [[b"x"]] * 3}
    values = task.scores(texts | assessed, {"target": [b"y"] * 3}).values
    model.compile(**Translation().compile_arguments())
    weight = (target != PADDING).astype("float32")
    plain = model.evaluate(batch, target, sample_weight=weight, verbose=0, return_dict=True)
    assert values["perplexity"] == pytest.approx(np.exp(plain["loss"]), rel=1e-5)
    assert values["token_accuracy"] == pytest.approx(plain["token_accuracy"], rel=1e-5)
    begun = batch["target"][:, :1]
    forced = task.forced(model, {"source": batch["source"], "target": target})
    again = task.assess(
        model,
        {"source": batch["source"], "target": np.concatenate([begun, target[:, :-1]], axis=1)},
        target,
    )
    np.testing.assert_allclose(forced["scores"], again["reference_scores"], rtol=1e-6)


@pytest.fixture(scope="module")
def copying():
    """A preprocessor and a model that has learned to copy short words, in seconds."""
    keras.utils.set_random_seed(0)
    draw = np.random.default_rng(0)
    words = ["".join(draw.choice(list("abcd"), draw.integers(1, 5))) for _ in range(3000)]
    raw = {"source": tf.constant(words), "target": tf.constant(words)}
    preprocessor = TranslationPreprocessor()
    preprocessor.fit(tf.data.Dataset.from_tensors(raw))
    index = tf.range(len(words), dtype=tf.int64)
    examples = {
        "features": preprocessor.features(raw),
        "target": preprocessor.target(raw),
        "index": index,
        "epoch": tf.zeros_like(index),
    }
    dataset = arrange(
        tf.data.Dataset.from_tensor_slices(examples).batch(64).map(lambda x: x),
        preprocessor,
        training=True,
        seed=0,
        batch_size=64,
    ).map(lambda b: (preprocessor.model_inputs(b["features"]), b["target"], b["weight"]))
    model = bahdanau_attention(**preprocessor.model_arguments(), units=24, embedding_dim=12)
    task = Translation(maximum_length=8)
    model.compile(keras.optimizers.Adam(0.02), **task.compile_arguments())
    model.fit(dataset, epochs=4, verbose=0)
    return preprocessor, model, task


def answers_of(copying, texts):
    preprocessor, model, task = copying
    inputs = {"source": tf.constant(texts)}
    response = task.respond(model, preprocessor.model_inputs(preprocessor.features(inputs)))
    return preprocessor.answer(response, inputs)


def test_learns_to_copy(copying):
    texts = ["abcd", "dcba", "a", "bb", "cad"]
    answer = answers_of(copying, texts)
    assert [text.decode() for text in answer["texts"].numpy()[:, 0]] == texts
    assert answer["lengths"].numpy()[:, 0].tolist() == [4, 4, 1, 2, 3]
    assert answer["texts"].shape == answer["scores"].shape == answer["lengths"].shape == (5, 4)
    assert answer["alignment"].shape[:2] == (5, 4)
    assert answer["alignment"].shape[3] == 5
    assert (answer["scores"].numpy() < 0).all()


def test_served_answer_is_the_same(copying, tmp_path):
    preprocessor, model, task = copying

    def answer(source):
        features = preprocessor.model_inputs(preprocessor.features({"source": source}))
        return preprocessor.answer(task.respond(model, features), {"source": source})

    module = tf.Module()
    module.trackables = [model, *preprocessor.trackables]
    module.answer = tf.function(
        answer, input_signature=[preprocessor.signature["source"]], autograph=False
    )
    tf.saved_model.save(module, str(tmp_path))
    served = tf.saved_model.load(str(tmp_path))
    texts = ["abcd", "", "ab☃"]
    expected = answers_of(copying, texts)
    for name, value in served.answer(tf.constant(texts)).items():
        if name == "texts":
            assert value.numpy().tolist() == expected[name].numpy().tolist()
        else:
            np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5)
    assert served.answer(tf.zeros([0], tf.string))["texts"].shape == (0, 4)


def asked(copying, endpoint, **inputs):
    """What an endpoint answers to raw inputs."""
    preprocessor, model, task = copying
    inputs = {
        name: tf.constant(values, spec.dtype)
        for (name, spec), values in zip(
            endpoint.inputs(preprocessor).items(), inputs.values(), strict=True
        )
    }
    response = endpoint.respond(task, model, endpoint.features(preprocessor, inputs))
    return {k: v.numpy() for k, v in endpoint.answer(preprocessor, response, inputs).items()}


def test_translate_does_what_each_row_wishes(copying):
    answer = asked(
        copying,
        translate,
        source=["abcd", "abcd", "abcd", "abcd"],
        length_penalty=[0.0] * 4,
        beam_width=[1, 4, 4, 1],
        maximum_length=[8, 8, 2, 8],
        temperature=[0.0, 0.0, 0.0, 50.0],
        seed=[1, 2, 3, 4],
    )
    texts = [[text.decode() for text in row] for row in answer["texts"]]
    assert texts[0] == ["abcd", "", "", ""]
    assert texts[1][0] == "abcd"
    assert len(set(texts[1])) == 4
    assert all(len(text) <= 2 for text in texts[2])
    assert texts[3][0] != "abcd", "at this temperature every token is nearly as probable"
    assert [token.decode() for token in answer["source_tokens"][0]] == ["a", "b", "c", "d", "∎"]
    best = [token.decode() for token in answer["target_tokens"][0, 0]]
    assert best[:5] == ["a", "b", "c", "d", "∎"]
    assert not any(best[5:])
    assert answer["target_tokens"].shape == answer["alignment"].shape[:3]


def test_score_is_that_of_the_answer(copying):
    texts = ["abcd", "a", ""]
    best = answers_of(copying, texts)
    given = asked(copying, score, source=texts, target=best["texts"].numpy()[:, 1].tolist())
    np.testing.assert_allclose(given["scores"], best["scores"][:, 1], rtol=1e-4)
    np.testing.assert_array_equal(given["lengths"], best["lengths"][:, 1])
    assert given["scores"].shape == (3,)


def test_what_is_too_long_is_reported(copying):
    long = "a" * 64  # with the end token one more than is read
    answer = answers_of(copying, ["a" * 63, long, ""])
    assert answer["truncated"].numpy().tolist() == [False, True, False]
    given = asked(copying, score, source=["a", "a", long], target=["a", long, "a"])
    assert given["truncated"].tolist() == [False, True, True]


def test_figures_are_drawn(copying, tmp_path):
    preprocessor, model, task = copying
    sources = [b"abcd", b"dcba", b"a", b"bb", b"cad"]
    answers = {"texts": list(answers_of(copying, sources)["texts"].numpy())}
    examples = {"source": sources, "target": [*sources[:-1], b"bad"]}
    evaluation = Evaluation(
        model=model,
        preprocessor=preprocessor,
        source=types.SimpleNamespace(),
        split="test",
        answers=answers,
        examples=examples,
        scores=task.scores(answers, examples),
    )
    figures = task.figures(evaluation, tmp_path)
    assert [figure.file for figure in figures] == ["attention.png", "mistakes.png"]
    for figure in figures:
        assert pathlib.Path(tmp_path, figure.file).read_bytes().startswith(b"\x89PNG")
    assert "1 of 5 answers" in figures[1].caption
    assert "|tok:13a|" in figures[1].caption


@pytest.mark.slow
def test_dates_reach_99_percent(tmp_path):
    arguments = ("-m", "pipelines.machine_translation")
    result = run_python(*arguments, "--run", "dates", "--runs_dir", tmp_path)
    assert result.returncode == 0, result.stderr
    scores = json.loads((tmp_path / "machine_translation/dates/scores.json").read_text())
    assert scores["test"]["exact_match"] >= 0.99
