"""Tokenizers: the same eagerly, in tf.data and in an export, and what they do with odd text."""

import numpy as np
import pytest
import tensorflow as tf

from models.layers.reserved_tokens import END, RESERVED, UNKNOWN
from pipelines.engine.application import UserError
from pipelines.preprocess.text import TranslationPreprocessor, Words, clean, dense
from pipelines.sources.parallel_text import ParallelText

SOURCES = [
    "A man isn't riding a red bicycle.",
    "Two dogs play in the well-kept garden!",
    "A woman reads (aloud) to two children.",
    "The red dogs ride in the garden.",
] * 5
TARGETS = [
    "Ein Mann fährt nicht auf einem roten Fahrrad.",
    "Zwei Hunde spielen im gepflegten Garten!",
    "Eine Frau liest zwei Kindern (laut) vor.",
    "Die roten Hunde fahren im Garten.",
] * 5
KINDS = {
    "characters": {},
    "words": {},
    "unigram": {"vocabulary_size": 80, "shared_vocabulary": True},
    "bpe": {"vocabulary_size": 80, "shared_vocabulary": True},
}


def pairs():
    return tf.data.Dataset.from_tensor_slices({"source": SOURCES, "target": TARGETS}).batch(6)


def fitted(kind, **options):
    preprocessor = TranslationPreprocessor(tokenizer=kind, **(KINDS[kind] | options))
    preprocessor.fit(pairs())
    return preprocessor


def source_ids(preprocessor, *texts):
    return preprocessor.features({"source": tf.constant(texts)})["source"].to_list()


def read_back(preprocessor, texts):
    """Texts → target ids → the texts of an answer that wrote just these ids."""
    ids = preprocessor.target({"target": tf.constant(texts)})
    response = {
        "tokens": ids.to_tensor()[:, None],
        "scores": tf.zeros([len(texts), 1]),
        "lengths": tf.cast(ids.row_lengths() - 1, tf.int32)[:, None],
        "alignment": tf.zeros([len(texts), 1, tf.shape(ids.to_tensor())[1], 1]),
        "truncated": tf.zeros([len(texts)], tf.bool),
    }
    return [text.decode() for text in preprocessor.answer(response, {})["texts"][:, 0].numpy()]


@pytest.mark.parametrize("kind", KINDS)
def test_detokenizing_returns_the_text(kind):
    assert read_back(fitted(kind), TARGETS[:4]) == TARGETS[:4]


@pytest.mark.parametrize("kind", KINDS)
def test_eager_equals_tf_data_equals_export(kind, tmp_path):
    preprocessor = fitted(kind)
    texts = [*SOURCES[:4], "", "Ünknown ☃ text", b"\xffbroken"]
    eager = preprocessor.model_inputs(preprocessor.features({"source": tf.constant(texts)}))

    dataset = tf.data.Dataset.from_tensor_slices({"source": texts}).batch(len(texts))
    streamed = next(iter(dataset.map(preprocessor.features).map(preprocessor.model_inputs)))

    module = tf.Module()
    module.trackables = preprocessor.trackables
    module.run = tf.function(
        lambda source: preprocessor.model_inputs(preprocessor.features({"source": source})),
        input_signature=[preprocessor.signature["source"]],
        autograph=False,
    )
    tf.saved_model.save(module, str(tmp_path))
    exported = tf.saved_model.load(str(tmp_path)).run(tf.constant(texts))

    assert eager["source"].numpy().tolist() == streamed["source"].numpy().tolist()
    assert eager["source"].numpy().tolist() == exported["source"].numpy().tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_saved_vocabulary_gives_the_same_numbers(kind, tmp_path):
    preprocessor = fitted(kind)
    preprocessor.save(tmp_path)
    restored = TranslationPreprocessor(tokenizer=kind, **KINDS[kind])
    restored.restore(tmp_path)
    assert source_ids(restored, *SOURCES) == source_ids(preprocessor, *SOURCES)
    assert read_back(restored, TARGETS[:4]) == TARGETS[:4]
    assert restored.model_arguments() == preprocessor.model_arguments()


@pytest.mark.parametrize("kind", KINDS)
def test_every_id_is_in_the_vocabulary(kind):
    preprocessor = fitted(kind)
    size = preprocessor.model_arguments()["source_vocabulary_size"]
    ids = preprocessor.features({"source": tf.constant([*SOURCES, "☃"])})["source"]
    assert 0 < int(tf.reduce_min(ids)) <= int(tf.reduce_max(ids)) < size


@pytest.mark.parametrize("kind", KINDS)
def test_empty_and_unknown_text(kind):
    preprocessor = fitted(kind)
    empty, blank, unknown = source_ids(preprocessor, "", " \t\n ", "☃")
    assert empty == blank == [END]
    assert unknown[-2:] == [UNKNOWN, END]
    assert read_back(preprocessor, ["", "☃"])[0] == ""
    assert "\ufffd" in read_back(preprocessor, ["", "☃"])[1]


def test_empty_batch_is_one_wide():
    preprocessor = fitted("characters")
    features = preprocessor.features({"source": tf.zeros([0], tf.string)})
    assert preprocessor.model_inputs(features)["source"].shape == (0, 1)


def test_a_long_text_is_cut_and_does_not_end():
    preprocessor = fitted("characters", maximum_source_length=5, maximum_target_length=6)
    (short, whole, cut) = source_ids(preprocessor, "A ma", "A man", "A man reads")
    assert short[-1] == END
    assert whole == cut == source_ids(preprocessor, "A man")[0]
    assert len(cut) == 5
    assert END not in cut
    assert preprocessor.target({"target": tf.constant(["Eine Frau"])}).row_lengths() == [6]


def test_cleaning():
    dirty = ["ﬁne\u00a0\u2028text\t\r\n ", b"a\xff\xfeb", "e\u0301", "\u3000x\x00y\x85"]
    cleaned = [text.decode() for text in clean(tf.constant(dirty), "NFKC", False).numpy()]
    assert cleaned == ["fine text", "a\ufffd\ufffdb", "é", "x y"]
    assert clean(tf.constant(["ﬁne ÉTÉ"]), "NFC", True).numpy()[0].decode() == "ﬁne été"


def test_words_keep_apostrophes_and_hyphens_and_part_symbols():
    texts = ["don't stop, 3.5 well-known ÉTÉ!!", "日本 (a-b)-"]
    tokens = [[token.decode() for token in row] for row in Words.split(texts).to_list()]
    assert tokens[0] == ["don't", "stop", ",", "3", ".", "5", "well-known", "ÉTÉ", "!", "!"]
    assert tokens[1] == ["日本", "(", "a-b", ")", "-"]


def test_vocabulary_order_is_by_frequency_then_code_point():
    preprocessor = TranslationPreprocessor(minimum_count=2, vocabulary_size=RESERVED + 3)
    rows = {"source": ["bb aa", "cd  c"], "target": ["x", "x"]}
    preprocessor.fit(tf.data.Dataset.from_tensor_slices(rows).batch(2))
    assert preprocessor.source_tokenizer.tokens == [" ", "a", "b"]
    assert preprocessor.target_tokenizer.tokens == ["x"]


def test_subwords_are_learned_the_same_twice():
    assert fitted("unigram").source_tokenizer.model == fitted("unigram").source_tokenizer.model


def test_a_shared_vocabulary_is_one():
    shared = fitted("words", shared_vocabulary=True)
    apart = fitted("words")
    assert shared.source_tokenizer is shared.target_tokenizer
    assert "Garten" in shared.source_tokenizer.tokens
    assert "Garten" not in apart.source_tokenizer.tokens


def test_dense_pads_to_a_multiple():
    ids = tf.ragged.constant([[5, 6, 7], [8], []])
    assert dense(ids, 4).numpy().tolist() == [[5, 6, 7, 0], [8, 0, 0, 0], [0, 0, 0, 0]]
    assert dense(ids).shape == (3, 3)
    assert dense(dense(ids), 4).shape == (3, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokenizer": "charakters"}, "unknown tokenizer 'charakters'; there is: characters"),
        ({"vocabulary_size": 4}, "4 ids are reserved"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(UserError, match=message):
        TranslationPreprocessor(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokenizer": "unigram"}, "subwords need a size"),
        ({"tokenizer": "bpe", "vocabulary_size": 5000}, "cannot learn 5000 pieces"),
    ],
)
def test_impossible_subwords(options, message):
    with pytest.raises(UserError, match=message):
        TranslationPreprocessor(**options).fit(pairs())


@pytest.mark.data
def test_subwords_of_multi30k_return_unseen_sentences(data_dir):
    source = ParallelText(
        data_dir=str(data_dir / "multi30k"), source_language="en", target_language="de"
    )
    preprocessor = TranslationPreprocessor(
        tokenizer="unigram", vocabulary_size=8000, shared_vocabulary=True
    )
    preprocessor.fit(source.load("train").batch(512))
    assert preprocessor.model_arguments() == dict.fromkeys(preprocessor.supplies, 8000)
    batch = next(iter(source.load("test").batch(1000)))
    sentences = [text.decode() for text in clean(batch["target"], "NFKC", False).numpy()]
    returned = read_back(preprocessor, sentences)
    # All but those with a character that no training sentence has.
    assert np.mean([a == b for a, b in zip(returned, sentences, strict=True)]) > 0.99
