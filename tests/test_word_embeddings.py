"""Word embeddings: words and their numbers, pairs of neighbours, random words, nearest words."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from models.word2vec import skip_gram
from pipelines.arrange import draws
from pipelines.arrange.skip_gram import arrange, keep_probabilities, noise_distribution, other_words
from pipelines.engine.application import UserError
from pipelines.preprocess.words import WordPreprocessor
from pipelines.tasks.task import Evaluation
from pipelines.tasks.word_embeddings import WordEmbeddings, negative_sampling_loss
from pipelines.word_embeddings import nearest_words

REPOSITORY = pathlib.Path(__file__).parents[1]

TEXTS = [
    "The cat sat on the mat, and the dog sat on the cat.",
    "A dog isn't a cat; a cat isn't a dog!",
    "",
    "Dogs",
    "On the mat the dog and the cat sat.",
]


@pytest.fixture
def preprocessor() -> WordPreprocessor:
    return fitted(TEXTS, minimum_count=2)


def fitted(texts: list[str], **options) -> WordPreprocessor:
    preprocessor = WordPreprocessor(**options)
    preprocessor.fit(tf.data.Dataset.from_tensor_slices({"text": texts}).batch(2))
    return preprocessor


def batches(
    preprocessor: WordPreprocessor,
    texts: list[str],
    *,
    sizes: list[int],
    index: list[int],
    epoch: int = 0,
    named: bool = False,
) -> tf.data.Dataset:
    """Batches of the given sizes as the engine hands them to ``arrange``."""
    rows = {
        "features": preprocessor.features({"text": tf.constant(texts)}),
        "target": preprocessor.target({"text": tf.constant(texts)}),
        "epoch": tf.fill([len(texts)], tf.constant(epoch, tf.int64)),
        "index": tf.constant(index, tf.int64),
    }
    if named:
        rows["example"] = {"id": tf.strings.as_string(rows["index"]), "text": tf.constant(texts)}
    ends = np.cumsum(sizes)
    dataset = tf.data.Dataset.from_tensor_slices((ends - sizes, ends))
    return dataset.map(
        lambda start, end: tf.nest.map_structure(lambda column: column[start:end], rows)
    )


def pairs(dataset: tf.data.Dataset) -> np.ndarray:
    """All rows of an arranged dataset as [pairs, 1 + candidates]: center, candidates."""
    features = [batch["features"] for batch in dataset]
    return np.concatenate([np.column_stack([row["center"], row["candidates"]]) for row in features])


def in_some_order(rows: np.ndarray) -> list[tuple]:
    return sorted(map(tuple, rows.tolist()))


# Words


def test_words_are_those_a_plain_regular_expression_finds(preprocessor):
    text = "Étude: l’été, naïve_x __init__(self) 3.11 'quoted' isn’t rock'n'roll\tСлово 日本 -- '"
    words = preprocessor.tokenize(tf.constant([text])).to_list()[0]
    expected = re.findall(
        r"\w+(?:(?<=[a-z0-9_])'(?=[a-z0-9_])\w+)*", text.lower().replace("’", "'")
    )
    assert [word.decode() for word in words] == expected
    assert "isn't" in expected


def test_broken_bytes_only_part_words(preprocessor):
    assert preprocessor.tokenize(tf.constant([b"cat\xff\xfedog"])).to_list() == [[b"cat", b"dog"]]


def test_vocabulary_is_ordered_by_count_then_spelling(preprocessor):
    counted = dict(zip(preprocessor.words, preprocessor.counts.tolist(), strict=True))
    assert counted == {
        "the": 7, "cat": 5, "a": 4, "dog": 4, "on": 3, "sat": 3, "and": 2, "isn't": 2, "mat": 2,
    }  # fmt: skip
    assert list(counted) == sorted(counted, key=lambda word: (-counted[word], word))


def test_unknown_words_leave_no_gap(preprocessor):
    numbers = preprocessor.features({"text": tf.constant(["A zebra dog", "", "zebra"])})["words"]
    a, dog = preprocessor.words.index("a"), preprocessor.words.index("dog")
    assert numbers.to_list() == [[a, dog], [], []]
    assert numbers.dtype == tf.int32


def test_options_limit_the_vocabulary():
    assert fitted(TEXTS, minimum_count=1, maximum_vocabulary=3).words == ["the", "cat", "a"]
    assert "The" in fitted(TEXTS, minimum_count=1, lower_case=False).words
    with pytest.raises(UserError, match="0 of 10 words occur 50 times"):
        fitted(TEXTS, minimum_count=50)


def test_vocabulary_survives_saving(preprocessor, tmp_path):
    preprocessor.save(tmp_path)
    restored = WordPreprocessor()
    restored.restore(tmp_path)
    assert restored.words == preprocessor.words
    assert restored.model_arguments() == {"vocabulary_size": 9}
    np.testing.assert_array_equal(restored.counts, preprocessor.counts)
    text = {"text": tf.constant(TEXTS)}
    assert restored.features(text)["words"].to_list() == (
        preprocessor.features(text)["words"].to_list()
    )


# Pairs


def test_full_windows_are_those_of_a_plain_loop(preprocessor):
    dataset = batches(preprocessor, TEXTS, sizes=[2, 3], index=[0, 1, 2, 3, 4], named=True)
    arranged = list(
        arrange(dataset, preprocessor, training=False, seed=0, batch_size=7, window=3, negatives=2)
    )
    expected, names = [], []
    for number, words in enumerate(
        preprocessor.features({"text": tf.constant(TEXTS)})["words"].to_list()
    ):
        for i, center in enumerate(words):
            for j in range(max(0, i - 3), min(len(words), i + 4)):
                if j != i:
                    expected.append((center, words[j]))
                    names.append(f"{number}:{i}:{j}")
    assert pairs(arranged)[:, :2].tolist() == [list(pair) for pair in expected]
    assert {batch["features"]["center"].shape[0] for batch in arranged[:-1]} == {7}
    found = [name.decode() for batch in arranged for name in batch["example"]["id"].numpy()]
    assert found == names
    first = arranged[0]["example"]
    assert [first["center"][0], first["context"][0]] == [
        preprocessor.words[word].encode() for word in expected[0]
    ]
    for batch in arranged:
        np.testing.assert_array_equal(batch["target"], [[1, 0, 0]] * len(batch["target"]))


def test_training_pairs_are_those_of_a_plain_loop_over_the_same_draws(preprocessor):
    """Kept words, reaches and random words one at a time, from the keys that ``draws`` promises."""
    index, seed, epoch, window, negatives = [3, 0, 7, 1, 5], 11, 2, 4, 3
    dataset = batches(preprocessor, TEXTS, sizes=[5], index=index, epoch=epoch)
    arranged = arrange(
        dataset, preprocessor, training=True, seed=seed, batch_size=8, window=window,
        negatives=negatives, subsample=0.1,
    )  # fmt: skip

    def chance(key: int, *more: int) -> float:
        return float(draws.uniform(draws.keys(key, *more)))

    keep = keep_probabilities(preprocessor.counts, 0.1)
    noise = preprocessor.counts**0.75
    offsets = [-4, -3, -2, -1, 1, 2, 3, 4]
    expected = []
    texts = preprocessor.features({"text": tf.constant(TEXTS)})["words"].to_list()
    for number, text in zip(index, texts, strict=True):
        keys = [
            draws.keys(draws.keys(seed, epoch, number), position) for position in range(len(text))
        ]
        kept = [
            (word, key) for word, key in zip(text, keys, strict=True) if chance(key, 0) < keep[word]
        ]
        for i, (center, key) in enumerate(kept):
            reach = 1 + int(chance(key, 1) * window)
            for slot, offset in enumerate(offsets):
                if abs(offset) <= reach and 0 <= i + offset < len(kept):
                    context = kept[i + offset][0]
                    others = [word for word in range(len(noise)) if word != context]
                    cumulative = np.cumsum(noise[others] / noise[others].sum())
                    pair_key = draws.keys(key, 2, slot)
                    random = [
                        others[np.searchsorted(cumulative, chance(pair_key, n), side="right")]
                        for n in range(negatives)
                    ]
                    expected.append((center, context, *random))
    assert len(expected) > 20
    assert in_some_order(pairs(arranged)) == sorted(expected)


def test_pairs_depend_on_seed_epoch_and_index_alone(preprocessor):
    def rows(texts, index, *, sizes, seed=5, epoch=3):
        dataset = batches(preprocessor, texts, sizes=sizes, index=index, epoch=epoch)
        return pairs(
            arrange(dataset, preprocessor, training=True, seed=seed, batch_size=4, subsample=0.1)
        )

    together = rows(TEXTS, [0, 1, 2, 3, 4], sizes=[5])
    np.testing.assert_array_equal(together, rows(TEXTS, [0, 1, 2, 3, 4], sizes=[5]))
    other_company = rows(
        [TEXTS[4], TEXTS[1], TEXTS[0], TEXTS[3], TEXTS[2]], [4, 1, 0, 3, 2], sizes=[2, 2, 1]
    )
    assert in_some_order(together) == in_some_order(other_company)
    assert in_some_order(together) != in_some_order(
        rows(TEXTS, [0, 1, 2, 3, 4], sizes=[5], epoch=4)
    )
    assert in_some_order(together) != in_some_order(rows(TEXTS, [0, 1, 2, 3, 4], sizes=[5], seed=6))


def test_texts_without_pairs_give_no_batch(preprocessor):
    dataset = batches(preprocessor, ["", "dog"], sizes=[1, 1], index=[0, 1])
    assert list(arrange(dataset, preprocessor, training=True, seed=0, batch_size=4)) == []


# Draws


def test_uniform_draws_are_uniform_and_independent():
    sample = draws.uniform(draws.keys(1, tf.range(20_000)[:, None], tf.range(2))).numpy()
    assert scipy.stats.kstest(sample.ravel(), "uniform").pvalue > 0.001
    table = np.histogram2d(*sample.T, bins=10)[0]
    assert scipy.stats.chi2_contingency(table).pvalue > 0.001


def test_keys_are_splitmix64():
    """The first numbers of SplitMix64 started at 0, as published with the Java library's tests."""
    golden = 0x9E3779B97F4A7C15
    states = [tf.constant(n * golden % 2**64, tf.uint64) for n in range(3)]
    assert [int(draws.keys(state)) for state in states] == [
        0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F,
    ]  # fmt: skip


def test_random_words_follow_the_counts_to_the_power_of_three_quarters():
    counts = np.array([900, 400, 250, 100, 60, 30, 10, 5])
    word = np.repeat(np.arange(8, dtype=np.int32), 2_000)
    chance = draws.uniform(draws.keys(7, tf.range(len(word))[:, None], tf.range(5)))
    found = other_words(noise_distribution(counts), tf.constant(word), chance).numpy()
    assert (found != word[:, None]).all()
    for left_out in range(8):
        expected = counts**0.75
        expected[left_out] = 0
        observed = np.bincount(found[word == left_out].ravel(), minlength=8)
        others = np.arange(8) != left_out
        share = expected[others] / expected.sum()
        assert scipy.stats.chisquare(observed[others], share * 10_000).pvalue > 0.001


def test_frequent_words_are_kept_as_the_word2vec_program_does():
    counts = np.array([50_000, 1_000, 10])
    threshold = 1e-3 * counts.sum()
    program = [(np.sqrt(n / threshold) + 1) * threshold / n for n in counts]
    np.testing.assert_allclose(keep_probabilities(counts, 1e-3), [*program[:2], 1])
    np.testing.assert_array_equal(keep_probabilities(counts, 0), [1, 1, 1])


# Model, loss and answers


def test_skip_gram_scores_are_dot_products(tmp_path):
    model = skip_gram(7, embedding_dim=3)
    assert model.count_params() == 2 * 7 * 3
    generator = np.random.default_rng(0)
    words, contexts = generator.normal(size=(2, 7, 3)).astype("float32")
    model.get_layer("word_vectors").set_weights([words])
    model.get_layer("context_vectors").set_weights([contexts])
    inputs = {"center": np.array([1, 6]), "candidates": np.array([[0, 2, 5], [6, 6, 1]])}
    expected = [
        [words[center] @ contexts[candidate] for candidate in row]
        for center, row in zip(inputs["center"], inputs["candidates"], strict=True)
    ]
    np.testing.assert_allclose(model(inputs), expected, rtol=1e-5, atol=1e-6)
    model.save(tmp_path / "model.keras")
    reloaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(reloaded(inputs), model(inputs))


def test_skip_gram_on_jax_scores_the_same(tmp_path):
    model = skip_gram(7, embedding_dim=3)
    model.get_layer("context_vectors").set_weights([np.eye(7, 3, dtype="float32")])
    model.save(tmp_path / "model.keras")
    script = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "import keras, numpy as np, models.word2vec\n"
        "model = keras.saving.load_model(sys.argv[1])\n"
        "inputs = {'center': np.array([1, 6]), 'candidates': np.array([[0, 2], [1, 4]])}\n"
        "np.save(sys.argv[2], model(inputs))\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, tmp_path / "model.keras", tmp_path / "scores.npy"],
        env=os.environ | {"KERAS_BACKEND": "jax"},
        cwd=REPOSITORY,
        check=True,
    )
    inputs = {"center": np.array([1, 6]), "candidates": np.array([[0, 2], [1, 4]])}
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), model(inputs), rtol=1e-6)


def test_loss_is_the_papers_and_counts_rivals_strictly():
    logits = np.array([[2.0, -1.0, 0.5], [0.0, 0.0, -3.0]], "float32")
    target = np.array([[1.0, 0, 0]] * 2, "float32")

    def log_sigmoid(x):
        return -np.log1p(np.exp(-x))

    equation_4 = [log_sigmoid(true) + sum(log_sigmoid(-x) for x in rest) for true, *rest in logits]
    np.testing.assert_allclose(
        negative_sampling_loss(target, logits), -np.array(equation_4), rtol=1e-5
    )
    accuracy = WordEmbeddings().compile_arguments()["metrics"][0]
    accuracy.update_state(target, logits)
    assert accuracy.name == "accuracy"
    assert float(accuracy.result()) == 0.5  # a tie is no success


def test_nearest_words_are_those_of_highest_cosine(preprocessor):
    model, task = skip_gram(9, embedding_dim=4), WordEmbeddings(neighbours=3)
    vectors = np.random.default_rng(1).normal(size=(9, 4)).astype("float32")
    model.get_layer("word_vectors").set_weights([vectors])
    answer = ask(preprocessor, task, model, ["Cat,", "zebra", "a dog", ""])
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cat = preprocessor.words.index("cat")
    cosines = directions @ directions[cat]
    best = [n for n in np.argsort(-cosines) if n != cat][:3]
    assert answer["neighbours"][0].tolist() == [preprocessor.words[n].encode() for n in best]
    np.testing.assert_allclose(answer["similarities"][0], cosines[best], rtol=1e-5)
    np.testing.assert_array_equal(answer["vector"][0], vectors[cat])
    assert (answer["neighbours"][1:] == b"").all()
    assert not answer["similarities"][1:].any()
    assert not answer["vector"][1:].any()


def test_asking_for_more_neighbours_than_words_gives_all_others(preprocessor):
    answer = ask(preprocessor, WordEmbeddings(neighbours=50), skip_gram(9), ["the"])
    assert sorted(answer["neighbours"][0]) == sorted(w.encode() for w in preprocessor.words[1:])


def test_exported_answers_are_those_in_process(preprocessor, tmp_path):
    model, task = skip_gram(9, embedding_dim=4), WordEmbeddings(neighbours=3)
    module = tf.Module()
    module.held = [model, *preprocessor.trackables]
    function = tf.function(
        lambda word: answer_of(preprocessor, task, model, word),
        input_signature=[nearest_words.inputs(preprocessor)["word"]],
        autograph=False,
    )
    tf.saved_model.save(module, str(tmp_path), signatures=function)
    served = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    for words in (["dog", "unheard-of", "THE"], []):
        answers = served(word=tf.constant(words, tf.string))
        expected = ask(preprocessor, task, model, words)
        assert {name: value.dtype.name for name, value in answers.items()} == {
            "neighbours": "string", "similarities": "float32", "vector": "float32",
        }  # fmt: skip
        np.testing.assert_array_equal(answers["neighbours"], expected["neighbours"])
        for name, value in expected.items():
            if value.dtype == np.float32:
                np.testing.assert_allclose(answers[name], value, rtol=1e-5)
            assert answers[name].shape == (len(words), 4 if name == "vector" else 3)


def ask(preprocessor, task, model, words: list[str]) -> dict[str, np.ndarray]:
    answer = answer_of(preprocessor, task, model, tf.constant(words, tf.string))
    return {name: value.numpy() for name, value in answer.items()}


def answer_of(preprocessor, task, model, word: tf.Tensor) -> dict[str, tf.Tensor]:
    inputs = {"word": word}
    features = nearest_words.features(preprocessor, inputs)
    response = nearest_words.respond(task, model, features)
    return nearest_words.answer(preprocessor, response, inputs)


def test_training_finds_words_used_alike_and_draws_them(tmp_path):
    """Animals and numbers in sentences of their own kind: the nearest words are of that kind."""
    kinds = [["cat", "dog", "cow", "hen"], ["one", "two", "three", "four"]]
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.permutation(kinds[n % 2])) for n in range(400)]
    preprocessor = fitted(texts)
    keras.utils.set_random_seed(0)
    model, task = skip_gram(8, embedding_dim=8), WordEmbeddings(neighbours=3)
    model.compile("adam", jit_compile=False, **task.compile_arguments())
    model.optimizer.learning_rate = 0.05
    dataset = batches(preprocessor, texts, sizes=[400], index=list(range(400)), named=True)
    training = arrange(dataset, preprocessor, training=True, seed=0, batch_size=64, subsample=0.0)
    model.fit(
        training.map(lambda batch: (batch["features"], batch["target"])), shuffle=False, verbose=0
    )
    answer = ask(preprocessor, task, model, kinds[0] + kinds[1])
    for word, neighbours in zip(kinds[0] + kinds[1], answer["neighbours"], strict=True):
        assert {word.encode(), *neighbours} in [{w.encode() for w in kind} for kind in kinds]

    held_out = next(iter(arrange(dataset, preprocessor, training=False, seed=0, batch_size=200)))
    answers = {k: list(v.numpy()) for k, v in task.respond(model, held_out["features"]).items()}
    scores = task.scores(answers, {})
    assert scores.values["accuracy"] == np.mean(np.array(answers["rivals"]) == 0)
    assert scores.errors.shape == (200,)
    evaluation = Evaluation(model, preprocessor, None, "test", answers, {}, scores)
    for figure in task.figures(evaluation, tmp_path):
        assert (tmp_path / figure.file).read_bytes().startswith(b"\x89PNG")
