"""Captioning: networks, arrangement, metrics by hand, and the search over pictures."""

from __future__ import annotations

import itertools
import tarfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from sacrebleu.metrics import BLEU

from models.captioning import caption_transformer, show_and_tell, show_attend_tell
from models.layers.reserved_tokens import BEGIN, END, PADDING
from models.layers.shapes_alone import shapes_alone
from pipelines.arrange.captioning import arrange
from pipelines.engine.application import UserError
from pipelines.image_captioning import score
from pipelines.preprocess.captions import CaptionPreprocessor
from pipelines.sources.flickr8k import Flickr8k
from pipelines.sources.scenes import parse
from pipelines.tasks.captioning import Captioning
from pipelines.tasks.cider import cider_d

SMALL = {"backbone": "convolutional_network", "backbone_options": {"maps": (4, 6)}}
SIDES = (12, 8)
VOCABULARY = 9
LENGTH = 6
MODELS = {
    "show_and_tell": lambda: show_and_tell(
        (*SIDES, 3), VOCABULARY, **SMALL, units=6, embedding_dim=5, depth=2
    ),
    "show_attend_tell": lambda: show_attend_tell(
        (*SIDES, 3), VOCABULARY, **SMALL, units=6, embedding_dim=5, stride=2
    ),
    "caption_transformer": lambda: caption_transformer(
        (*SIDES, 3), VOCABULARY, **SMALL, dim=8, hidden_dim=12, layers=2, heads=2
    ),
}
GRIDS = {"show_and_tell": (1, 1), "show_attend_tell": (6, 4), "caption_transformer": (6, 4)}
BEAM = Captioning(maximum_length=LENGTH, beam_width=3, answers=3)


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    keras.utils.set_random_seed(2)
    model = MODELS[request.param]()
    # Untrained models are all but undecided; larger weights make rows differ in tokens and length.
    model.set_weights([4 * weight for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def image():
    """Pictures of different colours, since one network sees no more than averages."""
    draw = np.random.default_rng(0)
    tints = draw.normal(size=(5, 1, 1, 3))
    return (tints + draw.normal(size=(5, *SIDES, 3))).astype("float32")


def respond(model, image, task=BEAM):
    response = task.respond(model, {"image": tf.constant(image)})
    return {name: keras.ops.convert_to_numpy(value) for name, value in response.items()}


def test_score_is_what_teacher_forcing_gives(model, image):
    response = respond(model, image)
    tokens = response["tokens"].reshape(-1, LENGTH)
    given = {"image": np.repeat(image, 3, axis=0), "target": tokens}
    asked = {k: keras.ops.convert_to_numpy(v) for k, v in BEAM.forced(model, given).items()}
    np.testing.assert_allclose(asked["scores"], response["scores"].reshape(-1), rtol=1e-4)
    np.testing.assert_array_equal(asked["lengths"], response["lengths"].reshape(-1))
    np.testing.assert_array_equal(asked["truncated"], ~(tokens == END).any(1))
    begin = np.full((len(tokens), 1), BEGIN, "int32")
    target = np.concatenate([begin, tokens[:, :-1]], axis=1)
    logits = model({"image": given["image"], "target": target})
    forced = np.take_along_axis(
        keras.ops.convert_to_numpy(keras.ops.log_softmax(logits)), tokens[..., None], -1
    )[..., 0]
    forced = np.where(tokens != PADDING, forced, 0).sum(1)
    np.testing.assert_allclose(response["scores"].reshape(-1), forced, rtol=1e-4, atol=1e-5)
    assert len({tuple(row) for row in response["tokens"][:, 0]}) > 1, "all alike test little"


def test_a_batch_gives_what_single_rows_give(model, image):
    together = respond(model, image)
    for row in range(len(image)):
        alone = respond(model, image[row : row + 1])
        for name, value in alone.items():
            np.testing.assert_allclose(together[name][row], value[0], rtol=1e-4, atol=1e-5)


def test_attention_is_a_distribution_over_the_places(model, image):
    response = respond(model, image)
    assert response["attention"].shape == (5, 3, LENGTH, *GRIDS[model.name])
    total = response["attention"].sum((-1, -2))
    looks = model.name != "show_and_tell"
    np.testing.assert_allclose(total, (response["tokens"] != PADDING) * looks, atol=1e-5)


@pytest.mark.parametrize("width", [1, 4])
def test_a_picture_is_encoded_once_whatever_the_beam(model, image, width, monkeypatch):
    rows, steps, encode, step = [], [], model.backbone.call, model.step

    def encoded(inputs, *arguments, **keywords):
        rows.append(len(inputs["image"]))
        return encode(inputs, *arguments, **keywords)

    def stepped(tokens, *arguments):
        steps.append(tokens.shape)
        return step(tokens, *arguments)

    monkeypatch.setattr(model.backbone, "call", encoded)
    monkeypatch.setattr(model, "step", stepped)
    respond(model, image, Captioning(maximum_length=LENGTH, beam_width=width, answers=width))
    assert set(steps) == {(len(image), width)}
    assert rows == [len(image)]


def test_the_penalty_makes_every_place_be_read_once(image):
    """By hand: read twice of two real tokens, a place has 1, and all 24 places together 2."""
    model = MODELS["show_attend_tell"]()
    target = np.array([[BEGIN, 4, PADDING]] * len(image), "int32")
    weights = np.full((3, len(image), 24), 1 / 24, "float32")
    model.looked(tf.constant(weights), target)
    expected = 24 * (1 - 2 / 24) ** 2 / 2
    assert float(model.losses[0]) == pytest.approx(expected, rel=1e-5)
    model({"image": image, "target": target}, training=True)
    assert len(model.losses) == 1
    model({"image": image, "target": target})
    assert not model.losses
    free = show_attend_tell((*SIDES, 3), 9, **SMALL, units=6, stride=2, attention_penalty=0.0)
    free({"image": image, "target": target}, training=True)
    assert not free.losses


def test_positions_tell_places_apart():
    """Without them a picture and its mirror image have the same annotations in another order."""
    same = {}
    for positions in (True, False):
        keras.utils.set_random_seed(0)
        model = show_attend_tell(
            (8, 8, 3),
            9,
            backbone="convolutional_network",
            units=6,
            backbone_options={"maps": (4,), "kernel_size": 1},
            stride=1,
            positions=positions,
        )
        image = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype("float32")
        one, other = (
            np.asarray(model.encode({"image": x})["values"]).reshape(8, 8, 4)
            for x in (image, image[:, :, ::-1])
        )
        same[positions] = np.allclose(one, other[:, ::-1], atol=1e-5)
    assert same == {True: False, False: True}


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"backbone": "resnet51"}, "no backbone 'resnet51' in the zoo; there is: resnet5"),
        ({"backbone": "transformer_tiny"}, "no backbone 'transformer_tiny' in the zoo"),
        (
            SMALL | {"stride": 2, "weights": "imagenet"},
            "no weights are published for convolutional_network",
        ),
        ({"backbone": "convolutional_network", "stride": 64}, r"no map of stride 64; .* 1, 2, 4"),
        ({"backbone": "lenet5", "input_shape": (32, 32, 1)}, "names no maps by stride"),
    ],
)
def test_what_is_no_backbone_is_refused(keywords, message):
    with pytest.raises(ValueError, match=message):
        show_attend_tell(**({"input_shape": (16, 16, 3)} | keywords))


def test_alexnet_s_4096_features_are_the_first_input():
    with shapes_alone():
        model = show_and_tell((67, 67, 3), 9, backbone="alexnet", units=4, embedding_dim=4)
    assert model.backbone.output.shape == (None, 4096)


CAPTIONS = ["A red dog.\nThe dog is red", "a cat"]


@pytest.fixture(scope="module")
def preprocessor():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), np.uint8)
    raw = {
        "image": tf.stack([tf.io.encode_png(picture) for picture in pixels]),
        "captions": tf.constant(CAPTIONS),
    }
    preprocessor = CaptionPreprocessor(size=SIDES, maximum_length=5)
    preprocessor.fit(tf.data.Dataset.from_tensors(raw))
    return preprocessor, raw


def test_captions_become_tokens(preprocessor, tmp_path):
    preprocessor, raw = preprocessor
    target = preprocessor.target(raw)
    assert target.row_lengths().numpy().tolist() == [2, 1]
    ids = target.to_list()
    assert all(row[-1] == END for captions in ids for row in captions)
    assert ids[0][0][:-2][::-1] != ids[0][1][:-1]
    assert preprocessor.features(raw)["image"].shape == (2, *SIDES, 3)
    tmp_path.joinpath("assets").mkdir()
    preprocessor.save(tmp_path / "assets")
    again = CaptionPreprocessor(size=SIDES, maximum_length=5)
    again.restore(tmp_path / "assets")
    assert again.target(raw).to_list() == ids
    assert again.model_arguments() == preprocessor.model_arguments()
    np.testing.assert_array_equal(again.mean, preprocessor.mean)


def test_captions_of_a_picture_take_turns(preprocessor):
    preprocessor, raw = preprocessor
    known = preprocessor.target(raw).to_list()

    def arranged(epoch, training):
        batch = {
            "features": preprocessor.features(raw),
            "target": preprocessor.target(raw),
            "index": tf.range(2, dtype=tf.int64),
            "epoch": tf.fill([2], tf.constant(epoch, tf.int64)),
        }
        options = {"training": training, "seed": 0, "batch_size": 2}
        return next(iter(arrange(tf.data.Dataset.from_tensors(batch), preprocessor, **options)))

    turns = [arranged(epoch, True)["target"].numpy() for epoch in range(4)]
    shown = [[token for token in turn[0].tolist() if token] for turn in turns]
    assert shown[0] != shown[1]
    assert shown[:2] == shown[2:] == known[0]
    batch = arranged(3, False)
    assert batch["target"][0].numpy().tolist()[: len(known[0][0])] == known[0][0]
    given = batch["features"]["target"].numpy()
    assert (given[:, 0] == BEGIN).all()
    np.testing.assert_array_equal(given[:, 1:], batch["target"][:, :-1])
    np.testing.assert_array_equal(batch["weight"], batch["target"] != PADDING)


def test_cider_d_by_hand():
    """Two pictures: log 2 weighs what only one of them has, 0 what both have."""
    references = [["a red dog", "a dog"], ["a blue cat"]]
    # The same words: all cosines are 1, but there are no n-grams of four words.
    assert cider_d(["a blue cat", "a blue cat"], references)[1] == pytest.approx(10 * 3 / 4)
    # "a dog" for "a red dog": of the words weigh dog (both), red; of the pairs "a dog" and
    # "a red", "red dog". For "a dog" itself, one and two words are the same.
    penalty = np.exp(-1 / 72)
    first = penalty * (1 / np.sqrt(2)) / 4
    second = (1 + 1) / 4
    score = cider_d(["a dog", "a cat"], references)[0]
    assert score == pytest.approx(10 * (first + second) / 2)


def test_cider_d_counts_a_repeated_word_only_up_to_the_reference():
    references = [["dog runs"], ["cat"]]
    once, twice = (cider_d([text, "cat"], references)[0] for text in ("dog runs", "dog dog runs"))
    # Of words: min(2, 1)·1 + 1·1 over √5·√2; of pairs: one of two is shared.
    expected = np.exp(-1 / 72) * (2 / np.sqrt(10) + 1 / np.sqrt(2)) / 4
    assert once == pytest.approx(10 * 2 / 4)
    assert twice == pytest.approx(10 * expected)


def test_cider_d_ignores_case_and_punctuation():
    references = [["A red dog."], ["two cats"]]
    assert cider_d(["a RED dog!", "dogs"], references)[0] == pytest.approx(7.5)
    assert cider_d(["", "dogs"], references).tolist() == [0, 0]


SCENES = ("a large blue square above a small red circle", "a small red circle")


def test_scores_of_scenes():
    answers = {"texts": [[b"a small red circle below a large blue square"], [b"a small red"]]}
    examples = {
        "captions": [text.encode() for text in SCENES],
        "descriptions": ["\n".join(parse(text).descriptions) for text in SCENES],
        "id": [b"0", b"1"],
    }
    scores = Captioning().scores(answers, examples)
    assert scores.values["exact_scene"] == 0.5
    assert next(iter(scores.values)) == "exact_scene"
    assert scores.errors.tolist() == [0, 1]
    # By hand: 8 of 9 and 3 of 3 words are right; there is one too few.
    assert scores.values["bleu_1"] == pytest.approx(100 * 11 / 12 * np.exp(1 - 13 / 12))
    assert scores.values["distinct_captions"] == 1


def test_scores_against_several_references():
    answers = {"texts": [[b"A dog runs."], [b"a dog runs ."]]}
    examples = {"captions": [b"the dog runs .\na dog runs.", b"a cat sleeps ."], "id": [b"0", b"1"]}
    scores = Captioning().scores(answers, examples)
    assert "exact_scene" not in scores.values
    assert scores.errors[0] == pytest.approx(0)
    assert 0.3 < scores.errors[1] < 1
    # Of the second, "a" and "." are right.
    assert scores.values["bleu_1"] == pytest.approx(100 * 6 / 8)
    references = [["the dog runs .", "a dog runs."], ["a cat sleeps .", None]]
    streams = list(zip(*references, strict=True))
    texts = [text.decode() for (text,) in answers["texts"]]
    for order in range(1, 5):
        metric = BLEU(lowercase=True, max_ngram_order=order)
        expected = metric.corpus_score(texts, streams).score
        assert scores.values[f"bleu_{order}"] == pytest.approx(expected)
    assert scores.values["cider_d"] == pytest.approx(
        cider_d(texts, [list(filter(None, known)) for known in references]).mean()
    )
    assert scores.values["distinct_2"] == 2 / 4


def test_bleu_and_cider_have_intervals():
    """Half of the captions are perfect, the others share no word with what is true."""
    known = [f"a dog number {number} runs far" for number in range(40)]
    answers = {"texts": [[t if i % 2 else "nothing at all"] for i, t in enumerate(known)]}
    scores = Captioning().scores(answers, {"captions": known, "id": known})
    assert set(scores.summed) == {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "cider_d"}
    for name, figure in scores.summed.items():
        low, high = figure.interval()
        assert low < scores.values[name] < high
    perfect = Captioning().scores({"texts": [[t] for t in known]}, {"captions": known})
    assert perfect.summed["bleu_4"].interval() == pytest.approx((100, 100))


def test_a_caption_s_score_can_be_asked_for(preprocessor):
    """What is served as ``score``: the log-probability of the very tokens of that caption."""
    preprocessor, raw = preprocessor
    keras.utils.set_random_seed(0)
    model = show_attend_tell(
        **preprocessor.model_arguments(), **SMALL, units=6, embedding_dim=5, stride=2
    )
    texts = ["a cat", "the RED dog", "a dog is a red dog"]
    inputs = {"image": tf.repeat(raw["image"][:1], 3), "caption": tf.constant(texts)}
    assert set(score.inputs(preprocessor)) == set(inputs)
    features = score.features(preprocessor, inputs)
    answer = score.respond(BEAM, model, features)
    assert answer["truncated"].numpy().tolist() == [False, False, True]
    assert answer["lengths"].numpy().tolist() == [2, 3, 5]
    ids = preprocessor.caption(tf.constant(texts)).to_list()
    for row, tokens in enumerate(ids):
        given = {"image": features["image"][:1], "target": np.array([[BEGIN, *tokens[:-1]]])}
        logits = keras.ops.log_softmax(model(given))[0]
        expected = sum(float(logits[place, token]) for place, token in enumerate(tokens))
        assert float(answer["scores"][row]) == pytest.approx(expected, rel=1e-4)
    samples = score.samples(preprocessor, raw)
    assert samples["caption"].numpy().tolist() == [b"A red dog.", b"a cat"]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Flickr8k's files in small: a tar of 30 pictures, and one that cannot be decoded."""
    folder = tmp_path_factory.mktemp("flickr")
    pictures = folder / "pictures"
    pictures.mkdir()
    draw, lines = np.random.default_rng(0), []
    for number in range(30):
        pixels = draw.integers(0, 256, (24, 32, 3), np.uint8)
        (pictures / f"{number:03d}.jpg").write_bytes(tf.io.encode_jpeg(pixels).numpy())
        lines += [f"{number:03d}.jpg#{n}\tA picture , number {number} ." for n in range(5)]
    (pictures / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    lines += ["broken.jpg#0\tA broken one .", "missing.jpg#0\tNot there .", "nothing"]
    (folder / "captions.token.txt").write_text("\n".join(lines))
    with tarfile.open(folder / "images.tar", "w") as archive:
        archive.add(pictures, "images")
    for file in pictures.iterdir():
        file.unlink()
    pictures.rmdir()
    return folder


def test_flickr8k_s_files(photographs, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = Flickr8k(data_dir=str(photographs))
    splits = {split: list(source.load(split).as_numpy_iterator()) for split in source.splits}
    groups = {split: {row["group"] for row in rows} for split, rows in splits.items()}
    assert sum(map(len, splits.values())) == 30
    for one, other in itertools.combinations(groups.values(), 2):
        assert not one & other
    row = splits["train"][0]
    assert row["captions"].decode().split("\n")[4].startswith("A picture , number")
    assert tf.io.decode_jpeg(row["image"]).shape == (24, 32, 3)
    assert len(source.skipped) == 4
    with pytest.raises(UserError, match="4 damaged"):
        Flickr8k(data_dir=str(photographs), strict=True).load("train")


def test_flickr8k_s_official_splits(photographs, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "official"
    folder.mkdir()
    for file in photographs.iterdir():
        (folder / file.name).symlink_to(file)
    names = [f"{number:03d}.jpg\n" for number in range(30)]
    for name, part in {"train": names[:20], "dev": names[20:25], "test": names[25:]}.items():
        (folder / f"Flickr_8k.{name}Images.txt").write_text("".join(part))
    source = Flickr8k(data_dir=str(folder))
    found = {row["id"].decode() for row in source.load("test").as_numpy_iterator()}
    assert found == {f"{number:03d}.jpg" for number in range(25, 30)}
    assert len(list(source.load("validation"))) == 5


def test_flickr8k_without_captions_is_refused(tmp_path):
    (tmp_path / "picture.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="no file of captions"):
        Flickr8k(data_dir=str(tmp_path)).load("train")
