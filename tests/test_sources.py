"""Every source on small real files: one contract for all, and what each does with bad files."""

from __future__ import annotations

import collections
import datetime
import gzip
import importlib
import inspect
import os
import pathlib
import pickle
import pkgutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import tensorflow as tf

import pipelines.sources
from pipelines.engine.application import UserError
from pipelines.sources import dates
from pipelines.sources.catalogue import Catalogue
from pipelines.sources.catalogue_captions import CatalogueCaptions
from pipelines.sources.catalogue_tags import CatalogueTags
from pipelines.sources.cifar import CLASSES, Cifar
from pipelines.sources.class_folders import ClassFolders
from pipelines.sources.csv_files import CsvFiles, LabelledCsvFiles
from pipelines.sources.digits import BlurredDigits, Digits
from pipelines.sources.flickr8k import Flickr8k
from pipelines.sources.measurements import BreastCancer, Iris, Wine
from pipelines.sources.mnist import Mnist
from pipelines.sources.parallel_text import ParallelText
from pipelines.sources.python_docs import PythonDocs, prose
from pipelines.sources.scenes import Scenes
from pipelines.sources.source import Source
from pipelines.sources.splits import SPLITS, complete, cut
from pipelines.sources.street_scenes import StreetScenes
from pipelines.sources.tagged_pictures import TaggedPictures
from pipelines.sources.text_files import TextFiles
from pipelines.sources.town import Town
from tests.dataset_graphs import serializing_operations

pytestmark = pytest.mark.usefixtures("own_cache")


# Small data of every kind ------------------------------------------------------------------------


def picture(number: int, kind: str = "jpg") -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (9, 7, 3), np.uint8)
    return (tf.io.encode_jpeg if kind == "jpg" else tf.io.encode_png)(pixels).numpy()


def class_folders(folder: pathlib.Path, *, examples: int = 20) -> pathlib.Path:
    for number in range(examples):
        for label in ("cat", "dog"):
            kind = "jpg" if number % 2 else "png"
            path = folder / label / f"{number:02d}.{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(number, kind))
    return folder


def packed_class_folders(folder: pathlib.Path) -> pathlib.Path:
    for split in ("train", "test"):
        class_folders(folder / "loose" / split)
        with tarfile.open(folder / f"pets_{split}.tar", "w") as archive:
            archive.add(folder / "loose" / split, arcname=split)
    for path in sorted((folder / "loose").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (folder / "loose").rmdir()
    return folder


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def mnist_files(folder: pathlib.Path) -> pathlib.Path:
    draw = np.random.default_rng(0)
    for prefix, size in (("train", 30), ("t10k", 10)):
        images = idx(draw.integers(0, 256, (size, 28, 28)))
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (folder / f"{prefix}-labels.idx1-ubyte").write_bytes(idx(np.arange(size) % 10))
    return folder


def cifar_arrays(batch: int) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.random.default_rng(batch).integers(0, 256, (20, 3072), np.uint8)
    return np.arange(20, dtype=np.uint8) % 10, pixels


def cifar_names() -> list[str]:
    return [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


def cifar_binary(folder: pathlib.Path) -> pathlib.Path:
    (folder / "cifar-10-batches-bin").mkdir()
    for number, name in enumerate(cifar_names()):
        labels, pixels = cifar_arrays(number)
        rows = np.concatenate([labels[:, None], pixels], axis=1)
        (folder / "cifar-10-batches-bin" / f"{name}.bin").write_bytes(rows.tobytes())
    return folder


def cifar_pickles(folder: pathlib.Path) -> pathlib.Path:
    for number, name in enumerate(cifar_names()):
        labels, pixels = cifar_arrays(number)
        batch = {b"labels": labels.tolist(), b"data": pixels}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return folder


def parallel_files(folder: pathlib.Path, parts: tuple[str, ...] = ("corpus",)) -> pathlib.Path:
    for part in parts:
        for language in ("en", "de"):
            # Each source sentence occurs twice: both must come into the same split.
            lines = [f"{part} {language} sentence {number // 2}" for number in range(60)]
            content = ("\n".join(lines) + "\n").encode()
            (folder / f"{part}.{language}.gz").write_bytes(gzip.compress(content))
    return folder


def text_folder(folder: pathlib.Path) -> pathlib.Path:
    paragraphs = [f"Paragraph {number}\nhas two lines." for number in range(200)]
    (folder / "book.txt").write_text("\n\n".join(paragraphs))
    return folder


def captioned_pictures(folder: pathlib.Path) -> pathlib.Path:
    """Flickr8k's files in small: pictures, and a line for each of their captions."""
    lines = []
    for number in range(20):
        (folder / f"{number}.jpg").write_bytes(picture(number))
        lines += [f"{number}.jpg#{caption}\tPicture {number} ." for caption in range(2)]
    (folder / "captions.token.txt").write_text("\n".join(lines))
    return folder


def tagged_pictures(folder: pathlib.Path) -> pathlib.Path:
    """Pictures in two folders and a table of their tags, some of them missing."""
    lines = ["picture,split,dog,Ball"]
    for number in range(20):
        name = f"{'garden' if number % 2 else 'house'}/{number:02d}.jpg"
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(picture(number))
        split = "test" if number >= 15 else ""
        dog, ball = ("yes", "no", "")[number % 3], ("1", "-1")[number % 2]
        lines.append(f"{name},{split},{dog},{ball}")
    (folder / "tags.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def catalogue_folder(tmp_path_factory) -> pathlib.Path:
    """The data sets tiny_shapes, tiny_captions and tiny_tags, prepared by the catalogue's own code,
    without the network."""
    folder = tmp_path_factory.mktemp("catalogue")
    codes = {"tiny_shapes": TINY_SHAPES, "tiny_captions": TINY_CAPTIONS, "tiny_tags": TINY_TAGS}
    for package, code in codes.items():
        (folder / "code" / package).mkdir(parents=True)
        (folder / "code" / package / "__init__.py").touch()
        (folder / "code" / package / f"{package}.py").write_text(code)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder / "code")
        shapes = importlib.import_module("tiny_shapes.tiny_shapes").TinyShapes
        captions = importlib.import_module("tiny_captions.tiny_captions").TinyCaptions
        tags = importlib.import_module("tiny_tags.tiny_tags").TinyTags
        for builder in (shapes, captions, tags):
            builder(data_dir=folder / "data").download_and_prepare()
    return folder / "data"


TINY_SHAPES = """
import numpy as np
import tensorflow_datasets as tfds


class TinyShapes(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({
                "image": tfds.features.Image(shape=(8, 8, 3)),
                "shade": tfds.features.Tensor(shape=(8, 8, 1), dtype=np.uint8),
                "label": tfds.features.ClassLabel(names=["disc", "square"]),
            }),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(50), "test": self._generate_examples(20)}

    def _generate_examples(self, size):
        for number in range(size):
            yield number, {
                "image": np.full((8, 8, 3), number, np.uint8),
                "shade": np.full((8, 8, 1), number, np.uint8),
                "label": number % 2,
            }
"""

# The features that matter, and the splits, are those of coco_captions.
TINY_CAPTIONS = """
import numpy as np
import tensorflow_datasets as tfds


class TinyCaptions(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({
                "image": tfds.features.Image(encoding_format="jpeg"),
                "captions": tfds.features.Sequence({"text": np.str_, "id": np.int64}),
                "titles": tfds.features.Sequence(np.str_),
            }),
        )

    def _split_generators(self, dl_manager):
        sizes = {"train": 30, "val": 5, "test": 5, "restval": 5}
        return {name: self._generate_examples(size) for name, size in sizes.items()}

    def _generate_examples(self, size):
        for number in range(size):
            texts = [f"Picture {number} of\\n{size}.", f" A picture, {number}. "]
            texts += ["One more"] * (number % 2)
            yield number, {
                "image": np.full((8, 12, 3), number, np.uint8),
                "captions": [{"text": text, "id": place} for place, text in enumerate(texts)],
                "titles": [f"Title {number}"],
            }
"""

# The features that matter, and the splits, are those of celeb_a.
TINY_TAGS = """
import numpy as np
import tensorflow_datasets as tfds


class TinyTags(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({
                "image": tfds.features.Image(shape=(12, 8, 3), encoding_format="jpeg"),
                "attributes": {"Smiling": np.bool_, "Big_Nose": np.bool_, "Bald": np.bool_},
            }),
        )

    def _split_generators(self, dl_manager):
        sizes = {"train": 16, "validation": 4, "test": 4}
        return {name: self._generate_examples(size) for name, size in sizes.items()}

    def _generate_examples(self, size):
        for number in range(size):
            yield number, {
                "image": np.full((12, 8, 3), 8 * number, np.uint8),
                "attributes": {
                    "Smiling": number % 2 == 1, "Big_Nose": number % 4 == 3, "Bald": False
                },
            }
"""


def csv_file(folder: pathlib.Path) -> pathlib.Path:
    lines = [f"{number % 7},{'north' if number % 3 else 'south'},{number}" for number in range(60)]
    (folder / "houses.csv").write_text("\n".join(["Rooms,Side of town,Price", *lines]))
    return folder


SOURCES = {
    "digits": lambda folder: Digits(),
    "digits_blurred": lambda folder: BlurredDigits(),
    "mnist": lambda folder: Mnist(data_dir=str(mnist_files(folder))),
    "class_folders": lambda folder: ClassFolders(data_dir=str(class_folders(folder))),
    "class_folders_packed": lambda folder: ClassFolders(
        data_dir=str(packed_class_folders(folder)), strict=True
    ),
    "cifar_binary": lambda folder: Cifar(data_dir=str(cifar_binary(folder))),
    "cifar_pickles": lambda folder: Cifar(data_dir=str(cifar_pickles(folder))),
    "cifar_folders": lambda folder: Cifar(data_dir=str(class_folders(folder))),
    "catalogue": lambda folder: Catalogue(dataset_name="tiny_shapes", data_dir=str(folder)),
    "catalogue_captions": lambda folder: CatalogueCaptions(
        dataset_name="tiny_captions", data_dir=str(folder)
    ),
    "catalogue_tags": lambda folder: CatalogueTags(dataset_name="tiny_tags", data_dir=str(folder)),
    "street_scenes": lambda folder: StreetScenes(train_size=70, validation_size=9, test_size=9),
    "tagged_pictures": lambda folder: TaggedPictures(data_dir=str(tagged_pictures(folder))),
    "scenes": lambda folder: Scenes(train_size=60, validation_size=10, test_size=10),
    "flickr8k": lambda folder: Flickr8k(data_dir=str(captioned_pictures(folder))),
    "dates": lambda folder: dates.Dates(train_size=500, validation_size=50, test_size=50),
    "parallel_text": lambda folder: ParallelText(data_dir=str(parallel_files(folder))),
    "parallel_text_official": lambda folder: ParallelText(
        data_dir=str(parallel_files(folder, ("train", "val", "test_2016")))
    ),
    "python_docs": lambda folder: PythonDocs(),
    "text_files": lambda folder: TextFiles(data_dir=str(text_folder(folder))),
    "town": lambda folder: Town(houses=200),
    "csv_files": lambda folder: CsvFiles(data_dir=str(csv_file(folder)), target="Price"),
    "labelled_csv_files": lambda folder: LabelledCsvFiles(
        data_dir=str(csv_file(folder) / "houses.csv"), target="Side of town"
    ),
    "breast_cancer": lambda folder: BreastCancer(),
    "iris": lambda folder: Iris(),
    "wine": lambda folder: Wine(),
}


@pytest.fixture
def data(tmp_path) -> pathlib.Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def examples(source: Source, split: str) -> list[dict[str, bytes]]:
    return list(by_row(source, split).as_numpy_iterator())


def by_row(source: Source, split: str) -> tf.data.Dataset:
    dataset = source.load(split)
    return dataset.unbatch() if source.blocks else dataset


# The contract ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOURCES)
def test_source_keeps_the_contract(name, data, request):
    prepared = name.startswith("catalogue")
    source = SOURCES[name](request.getfixturevalue("catalogue_folder") if prepared else data)
    assert source.place in ("built in", "files", "catalogue")
    assert source.licence
    assert source.citation
    by_split = {split: examples(source, split) for split in source.splits}
    ids, groups = set(), {}
    for split, rows in by_split.items():
        dataset = by_row(source, split)
        assert dataset.element_spec == dict(source.fields)
        assert not serializing_operations(dataset)
        assert rows
        assert [row["id"] for row in rows] == [row["id"] for row in dataset.as_numpy_iterator()]
        assert ids.isdisjoint(row["id"] for row in rows)
        ids |= {row["id"] for row in rows}
        groups[split] = {row["group"] for row in rows if "group" in row}
    assert len(ids) == sum(len(rows) for rows in by_split.values())
    assert groups["train"].isdisjoint(groups["test"] | groups["validation"])
    assert groups["test"].isdisjoint(groups["validation"])
    assert source.skipped == ()
    with pytest.raises(UserError, match=r"unknown split 'tests'; there is: test, "):
        source.load("tests")


PICTURES = ("digits", "mnist", "class_folders", "cifar_binary", "cifar_folders", "catalogue")


@pytest.mark.parametrize("name", PICTURES)
def test_some_classes_and_a_few_examples_of_each(name, data, request):
    prepared = name == "catalogue"
    folder = request.getfixturevalue("catalogue_folder") if prepared else data
    whole = SOURCES[name](folder)

    def labels_by_id(split: str, **options) -> dict[bytes, bytes]:
        for option, value in {"classes": None, "examples_per_class": None, **options}.items():
            setattr(whole, option, value)
        return {row["id"]: row["label"] for row in examples(whole, split)}

    every = labels_by_id("train")
    some = sorted(set(every.values()))[:2]
    options = {"classes": [label.decode() for label in some]}
    expected = {id_: label for id_, label in every.items() if label in some}
    assert list(labels_by_id("train", **options)) == list(expected)
    few, fewer = (labels_by_id("train", **options, examples_per_class=n) for n in (2, 1))
    assert set(fewer) < set(few) < set(expected)
    available = collections.Counter(expected.values())
    assert collections.Counter(few.values()) == {one: min(2, available[one]) for one in some}
    assert collections.Counter(fewer.values()) == dict.fromkeys(some, 1)
    for split in ("validation", "test"):
        whole_split = [id_ for id_, label in labels_by_id(split).items() if label in some]
        assert list(labels_by_id(split, **options, examples_per_class=1)) == whole_split


def test_a_subset_is_a_function_of_ids_and_seed():
    def ids(seed: int) -> list[bytes]:
        source = Digits(classes="3,7", examples_per_class=5, subset_seed=seed)
        return [row["id"] for row in examples(source, "train")]

    assert ids(0) == ids(0)
    assert len(ids(0)) == 10
    assert ids(0) != ids(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": "3,x"}, "unknown class 'x'; there is: "),
        ({"classes": "3"}, "expected several, separated by commas"),
        ({"examples_per_class": 0}, "must be at least 1, not 0"),
    ],
)
def test_a_subset_that_there_cannot_be_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        Digits(**options).load("train")


def source_classes() -> set[type]:
    modules = [module.name for module in pkgutil.iter_modules(pipelines.sources.__path__)]
    members = [
        member
        for name in modules
        for member in vars(importlib.import_module(f"pipelines.sources.{name}")).values()
    ]
    return {
        member
        for member in members
        if inspect.isclass(member) and issubclass(member, Source) and hasattr(member, "citation")
    }


def test_every_source_is_in_the_table(tmp_path):
    built = set()
    for number, make in enumerate(SOURCES.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        built.add(type(make(folder)))
    assert source_classes() == built


def test_no_source_needs_tensorflow_to_be_imported():
    names = [
        f"pipelines.sources.{m.name}" for m in pkgutil.iter_modules(pipelines.sources.__path__)
    ]
    program = (
        "import importlib, sys\n"
        "sys.modules['tensorflow'] = None\n"
        f"modules = [importlib.import_module(name) for name in {names}]\n"
        "from pipelines.sources.dates import Dates\n"
        "assert Dates().sizes['test'] == 2000\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


FILE_SOURCES = [Mnist, ClassFolders, Cifar, Flickr8k, TaggedPictures, ParallelText, TextFiles]


@pytest.mark.parametrize("source", FILE_SOURCES)
def test_missing_and_empty_folders_are_refused(source, data):
    with pytest.raises(UserError, match="folder is empty"):
        source(data_dir=str(data)).load("train")
    with pytest.raises(UserError, match="nowhere: no such folder"):
        source(data_dir=str(data / "nowhere")).load("train")


# Splits ------------------------------------------------------------------------------------------


def test_cut_is_the_same_everywhere():
    names = [f"example {number}" for number in range(10)]
    shares = {"train": 0.6, "validation": 0.2, "test": 0.2}
    # Written down once: a change here would change every split ever made.
    assert [split[:2] for split in cut(names, shares)] == [
        "tr",
        "te",
        "tr",
        "te",
        "tr",
        "va",
        "va",
        "tr",
        "tr",
        "tr",
    ]
    assert cut(names[::-1], shares) == cut(names, shares)[::-1]


def test_cut_keeps_groups_whole_and_meets_the_shares():
    groups = [f"group {number // 5}" for number in range(1000)]
    parts = cut(groups, {"train": 0.8, "validation": 0.1, "test": 0.1})
    assert len(set(zip(groups, parts, strict=True))) == 200
    assert [parts.count(split) for split in SPLITS] == [800, 100, 100]


def test_official_splits_stay_whole():
    official = ["test"] * 10 + ["train"] * 90
    parts = complete(official, [str(number) for number in range(100)])
    assert parts[:10] == ["test"] * 10
    assert sorted(set(parts[10:])) == ["train", "validation"]
    only_test = complete(["test"] * 50, [str(number) for number in range(50)])
    assert set(only_test) == set(SPLITS)


# Pictures ----------------------------------------------------------------------------------------


def test_digits_are_the_scans():
    from sklearn.datasets import load_digits

    scans = load_digits()
    rows = examples(Digits(), "test")
    assert len(rows) == pytest.approx(0.2 * 1797, abs=5)
    for row in rows[:20]:
        number = int(row["id"].decode().split("/")[1])
        pixels = tf.io.decode_png(row["image"]).numpy()[..., 0].astype(int)
        np.testing.assert_array_equal(np.rint(pixels * 16 / 255), scans.images[number])
        assert row["label"] == str(scans.target[number]).encode()
    counts = np.unique([row["label"] for row in rows], return_counts=True)[1]
    assert counts.min() >= 34


def test_mnist_pictures_and_splits(data):
    source = Mnist(data_dir=str(mnist_files(data)))
    rows = [row for split in ("train", "validation") for row in examples(source, split)]
    pixels = np.random.default_rng(0).integers(0, 256, (30, 28, 28))
    decoded = [tf.io.decode_png(row["image"]).numpy()[..., 0] for row in rows]
    np.testing.assert_array_equal(decoded, pixels)
    assert len(examples(source, "validation")) == 3
    assert examples(source, "test")[7]["label"] == b"7"


@pytest.mark.parametrize("keep", [3, 9, 16, 400, -1])
def test_truncated_idx_is_named(data, keep):
    mnist_files(data)
    whole = gzip.decompress((data / "train-images-idx3-ubyte.gz").read_bytes())
    (data / "train-images-idx3-ubyte.gz").unlink()
    (data / "train-images-idx3-ubyte").write_bytes(whole[:keep])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte: (truncated|is no IDX)"):
        Mnist(data_dir=str(data)).load("train")


def test_truncated_gzip_and_missing_idx_are_named(data):
    mnist_files(data)
    file = data / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"t10k-images-idx3-ubyte\.gz: cannot be read"):
        Mnist(data_dir=str(data)).load("test")
    file.unlink()
    with pytest.raises(UserError, match="there is no t10k-images-idx3-ubyte or "):
        Mnist(data_dir=str(data)).load("test")


@pytest.mark.parametrize("make", [class_folders, packed_class_folders])
def test_class_folders_give_the_files_bytes(data, make):
    rows = [
        row for split in SPLITS for row in examples(ClassFolders(data_dir=str(make(data))), split)
    ]
    for row in rows:
        number, kind = row["id"].decode().rsplit("/", 1)[1].split(".")
        assert row["image"] == picture(int(number), kind)
        assert row["label"].decode() in row["id"].decode().split("/")


@pytest.mark.parametrize(
    ("path", "split", "label"),
    [
        ("test/cat/1.png", "test", "cat"),
        ("val/cat/deeper/1.png", "validation", "cat"),
        ("pets/train/dog/1.png", "train", "dog"),
        ("Train/train/1.png", "train", "train"),
    ],
)
def test_layouts_of_class_folders(data, path, split, label):
    class_folders(data / "train")
    (data / path).parent.mkdir(parents=True, exist_ok=True)
    (data / path).write_bytes(picture(1, "png"))
    rows = examples(ClassFolders(data_dir=str(data)), split)
    others = [row for s in SPLITS for row in examples(ClassFolders(data_dir=str(data)), s)]
    found = [row for row in (rows if split != "train" else others) if row["id"] == path.encode()]
    assert [row["label"].decode() for row in found] == [label]


def test_truncated_jpeg_is_named_and_skipped_or_refused(data):
    class_folders(data)
    bad = data / "dog" / "07.jpg"
    bad.write_bytes(picture(7)[:200])
    (data / "dog" / "notes.txt").write_text("no picture, not looked at")
    for _ in range(2):  # decoded, then known from the index
        source = ClassFolders(data_dir=str(data))
        assert sum(len(examples(source, split)) for split in SPLITS) == 39
        assert len(source.skipped) == 1
        assert source.skipped[0].startswith("dog/07.jpg: ")
    with pytest.raises(UserError, match=r"1 damaged .*dog/07\.jpg"):
        ClassFolders(data_dir=str(data), strict=True).load("train")
    bad.write_bytes(picture(7))
    mended = ClassFolders(data_dir=str(data), strict=True)
    assert sum(len(examples(mended, split)) for split in SPLITS) == 40


def test_link_to_nowhere_is_a_damaged_picture(data):
    class_folders(data)
    (data / "dog" / "99.jpg").symlink_to(data / "moved away.jpg")
    source = ClassFolders(data_dir=str(data))
    assert sum(len(examples(source, split)) for split in SPLITS) == 40
    (skipped,) = source.skipped
    assert skipped.startswith("dog/99.jpg: ")
    assert "No such file" in skipped


def test_index_spares_the_second_decoding(data, monkeypatch):
    class_folders(data)
    before = examples(ClassFolders(data_dir=str(data)), "train")
    # A file that changes without a new size and time is not decoded again.
    file = data / "cat" / "01.jpg"
    times = file.stat()
    file.write_bytes(b"x" * times.st_size)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    source = ClassFolders(data_dir=str(data))
    assert [row["id"] for row in examples(source, "train")] == [row["id"] for row in before]
    os.utime(file)
    assert ClassFolders(data_dir=str(data)).load("train")
    source = ClassFolders(data_dir=str(data))
    source.load("train")
    assert [entry.split(":")[0] for entry in source.skipped] == ["cat/01.jpg"]


def test_class_folders_without_classes_or_pictures_are_refused(data):
    (data / "notes.txt").write_text("nothing to see")
    with pytest.raises(UserError, match="there is no picture"):
        ClassFolders(data_dir=str(data)).load("train")
    (data / "cat").mkdir()
    (data / "cat" / "1.png").write_bytes(picture(1, "png"))
    with pytest.raises(UserError, match="only one class, 'cat'"):
        ClassFolders(data_dir=str(data)).load("train")
    (data / "cat" / "1.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="none of its 1 pictures can be decoded"):
        ClassFolders(data_dir=str(data)).load("train")
    (data / "dog.tar").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"dog\.tar: is no tar file"):
        ClassFolders(data_dir=str(data)).load("train")


@pytest.mark.parametrize("make", [cifar_binary, cifar_pickles])
def test_cifar_pictures_and_labels(data, make):
    source = Cifar(data_dir=str(make(data)))
    assert [len(examples(source, split)) for split in SPLITS] == [90, 10, 20]
    labels, pixels = cifar_arrays(5)
    for number, row in enumerate(examples(source, "test")):
        planes = tf.io.decode_png(row["image"]).numpy().transpose(2, 0, 1)
        np.testing.assert_array_equal(planes.reshape(-1), pixels[number])
        assert row["label"].decode() == CLASSES[labels[number]]


def test_damaged_and_dangerous_cifar_batches_are_refused(data):
    cifar_pickles(data)
    (data / "test_batch").write_bytes(pickle.dumps({b"data": os.system}, protocol=2))
    with pytest.raises(UserError, match=r"test_batch: .*it asks for posix\.system"):
        Cifar(data_dir=str(data)).load("test")
    (data / "test_batch").unlink()
    with pytest.raises(UserError, match="there is only data_batch_1"):
        Cifar(data_dir=str(data)).load("test")
    (data / "data_batch_1").rename(data / "data_batch_1.bin")
    with pytest.raises(UserError, match=r"data_batch_1\.bin: truncated"):
        Cifar(data_dir=str(data)).load("train")


def test_catalogue_reads_what_was_prepared_and_says_what_is_missing(catalogue_folder):
    prepared = str(catalogue_folder)
    source = Catalogue(dataset_name="tiny_shapes", data_dir=prepared)
    assert [len(examples(source, split)) for split in SPLITS] == [45, 5, 20]
    arrays = Catalogue(dataset_name="tiny_shapes", image="shade", data_dir=prepared)
    for made in (source, arrays):
        for row in examples(made, "test"):
            shade = int(tf.io.decode_image(row["image"])[0, 0, 0])
            assert row["label"] == (b"square" if shade % 2 else b"disc")
    with pytest.raises(UserError, match="unknown feature of tiny_shapes 'picture'"):
        Catalogue(dataset_name="tiny_shapes", image="picture", data_dir=prepared).load("test")
    with pytest.raises(UserError, match=r"mnist is not in .*; --download fetches it"):
        Catalogue(dataset_name="mnist", data_dir=prepared).load("train")
    with pytest.raises(UserError, match="no data set 'mnits'; nearest: mnist, "):
        Catalogue(dataset_name="mnits", data_dir=prepared).load("train")


def test_catalogue_s_captions_are_a_line_each(catalogue_folder):
    prepared = str(catalogue_folder)
    source = CatalogueCaptions(dataset_name="tiny_captions", data_dir=prepared)
    assert [len(examples(source, split)) for split in SPLITS] == [30, 5, 5]
    by_shade = {}
    for row in examples(source, "train"):
        shade = int(tf.io.decode_jpeg(row["image"])[0, 0, 0])
        by_shade[shade] = row["captions"].decode().split("\n")
    assert by_shade[3] == ["Picture 3 of 30.", "A picture, 3.", "One more"]
    assert by_shade[4] == ["Picture 4 of 30.", "A picture, 4."]
    titles = CatalogueCaptions(dataset_name="tiny_captions", captions="titles", data_dir=prepared)
    assert examples(titles, "test")[0]["captions"].startswith(b"Title ")
    with pytest.raises(UserError, match="unknown feature of tiny_captions 'texts'"):
        CatalogueCaptions(dataset_name="tiny_captions", captions="texts", data_dir=prepared).load(
            "test"
        )
    with pytest.raises(UserError, match=r"coco_captions is not in .*; --download fetches it"):
        CatalogueCaptions(data_dir=prepared).load("train")


def test_catalogue_s_tags_are_there_or_not(catalogue_folder):
    prepared = str(catalogue_folder)
    source = CatalogueTags(dataset_name="tiny_tags", data_dir=prepared)
    assert [len(examples(source, split)) for split in SPLITS] == [16, 4, 4]
    for row in examples(source, "train"):
        number = round(int(tf.io.decode_jpeg(row["image"])[0, 0, 0]) / 8)
        there = {1: {b"Smiling"}, 3: {b"Smiling", b"Big_Nose"}}.get(number % 4, set())
        assert set(row["present"].splitlines()) == there
        assert set(row["absent"].splitlines()) == {b"Smiling", b"Big_Nose", b"Bald"} - there
    with pytest.raises(UserError, match="unknown feature of tiny_tags 'tags'"):
        CatalogueTags(dataset_name="tiny_tags", tags="tags", data_dir=prepared).load("test")
    with pytest.raises(UserError, match="label of tiny_shapes holds no truth value for each"):
        CatalogueTags(dataset_name="tiny_shapes", tags="label", data_dir=prepared).load("test")
    with pytest.raises(UserError, match=r"celeb_a is not in .*; --download fetches it"):
        CatalogueTags(data_dir=prepared).load("train")


# Tagged pictures ---------------------------------------------------------------------------------


def test_a_table_tells_which_tags_are_there_not_there_or_missing(data):
    source = TaggedPictures(data_dir=str(tagged_pictures(data)))
    rows = {row["id"].decode(): row for split in SPLITS for row in examples(source, split)}
    assert len(rows) == 20
    for number, said in enumerate([("dog\nBall", ""), ("", "dog\nBall"), ("Ball", "")]):
        row = rows[f"{'garden' if number % 2 else 'house'}/{number:02d}.jpg"]
        assert (row["present"].decode(), row["absent"].decode()) == said
        assert row["image"] == picture(number)
    assert {row["id"][-6:-4] for row in examples(source, "test")} == {
        str(number).encode() for number in range(15, 20)
    }


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("house/00.jpg,,1,0", "house/00.jpg: has two rows"),
        ("house/99.jpg,,1,0", "house/99.jpg: there is no such picture"),
        ("bad.jpg,,1,0", "bad.jpg: "),
        ("spare.jpg,,perhaps,0", "spare.jpg: dog is 'perhaps'"),
        ("spare.jpg,tomorrow,1,0", "spare.jpg: split is 'tomorrow'"),
    ],
)
def test_damaged_rows_of_tags_are_named_and_skipped_or_refused(data, line, reason):
    tagged_pictures(data)
    (data / "spare.jpg").write_bytes(picture(50))
    if line.startswith("bad"):
        (data / "bad.jpg").write_bytes(picture(50)[:40])
    with (data / "tags.csv").open("a") as table:
        table.write(f"\n{line}")
    source = TaggedPictures(data_dir=str(data))
    assert sum(len(examples(source, split)) for split in SPLITS) == 20
    assert source.skipped[0].startswith(reason)
    with pytest.raises(UserError, match="damaged"):
        TaggedPictures(data_dir=str(data), strict=True).load("train")


def test_tables_that_tell_no_tag_are_refused(data):
    (data / "tags.csv").write_text("picture\na.jpg")
    with pytest.raises(UserError, match="no column besides picture"):
        TaggedPictures(data_dir=str(data)).load("train")
    (data / "tags.csv").write_text("picture,dog\na.jpg,1")
    with pytest.raises(UserError, match="tells of no picture that is there"):
        TaggedPictures(data_dir=str(data)).load("train")
    (data / "more.csv").write_text("picture,dog\na.jpg,1")
    with pytest.raises(UserError, match=r"which table\? there is more.csv, tags.csv"):
        TaggedPictures(data_dir=str(data)).load("train")


# Dates -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("locale", dates.LOCALES)
def test_dates_are_written_as_babel_writes_them(locale):
    from babel.dates import format_date

    for number in range(0, 36_890, 1001):
        day = dates.FIRST + datetime.timedelta(number)
        for form in dates.forms(locale):
            assert dates.write(day, form, locale) == format_date(day, form, locale)


def test_no_date_has_two_meanings():
    meaning = {}
    for number in range(366):
        day = datetime.date(2004, 1, 1) + datetime.timedelta(number)
        for locale in dates.LOCALES:
            for form in dates.forms(locale):
                for change in dates.WRITINGS.values():
                    text = change(dates.write(day, form, locale))
                    assert meaning.setdefault(text, day) == day, text
    assert len({locale.split("_")[0] for locale in dates.LOCALES}) >= 12


def test_dates_follow_their_seed():
    one, same, other = (dates.Dates(train_size=300, seed=seed).rows("train") for seed in (3, 3, 4))
    assert one == same
    assert one != other
    # More examples than days: each day comes up about equally often.
    days = [group for *_, group, _ in dates.Dates(test_size=8000).rows("test")]
    assert max(days.count(day) for day in set(days[:50])) == 3
    with pytest.raises(UserError, match="sizes of at least 1"):
        dates.Dates(test_size=0)


# Text --------------------------------------------------------------------------------------------


def test_parallel_text_takes_the_languages_asked_for(data):
    parallel_files(data, ("train", "val", "test_2016"))
    one = ParallelText(data_dir=str(data)).rows("test")[4]
    assert one[:3] == ("test_2016/000005", "test_2016 de sentence 2", "test_2016 en sentence 2")
    other = ParallelText(data_dir=str(data), source_language="en").rows("test")[4]
    assert other[1:] == (one[2], one[1], one[2])
    for name in (data / "train.de.gz", data / "val.de.gz"):
        (data / name.name.replace(".de", ".fr")).write_bytes(name.read_bytes())
    with pytest.raises(UserError, match=r"3 languages \(de, en, fr\); choose two"):
        ParallelText(data_dir=str(data)).load("train")
    with pytest.raises(UserError, match=r"unknown language in .* 'dee'; there is: de, "):
        ParallelText(data_dir=str(data), source_language="dee", target_language="en").load("train")
    chosen = ParallelText(data_dir=str(data), source_language="fr", target_language="en")
    assert len(chosen.rows("validation")) == 60


def test_parallel_files_of_different_length_are_refused(data):
    (data / "train.en").write_text("one\ntwo\nthree\n")
    (data / "train.de").write_text("eins\nzwei\n")
    with pytest.raises(UserError, match=r"train\.de has 2 lines, .*train\.en has 3"):
        ParallelText(data_dir=str(data)).load("train")


def test_broken_rows_are_named_and_skipped_or_refused(data):
    lines = [f"word {number}".encode() for number in range(30)]
    (data / "train.en").write_bytes(b"\n".join(lines))
    lines[4], lines[7] = b"gr\xfc\xdfe", b"  "
    (data / "train.de").write_bytes(b"\r\n".join(lines))
    source = ParallelText(data_dir=str(data), source_language="en", target_language="de")
    assert sum(len(source.rows(split)) for split in SPLITS) == 28
    assert source.skipped == (
        f"{data}/train.de, line 5: is not UTF-8",
        f"{data}/train.de, line 8: is empty",
    )
    with pytest.raises(UserError, match=r"2 damaged .*train\.de, line 5"):
        ParallelText(data_dir=str(data), strict=True).load("train")


def test_sentences_that_were_trained_on_are_kept_in_official_splits_but_reported(data, caplog):
    parallel_files(data, ("train", "val", "test"))
    for language in ("en", "de"):
        (data / f"test.{language}.gz").write_bytes((data / f"train.{language}.gz").read_bytes())
    assert len(examples(ParallelText(data_dir=str(data)), "test")) == 60
    assert "60 of 60 source sentences of test also occur in train" in caplog.text


def test_python_docs_are_prose():
    rows = [row for split in SPLITS for row in PythonDocs().rows(split)]
    assert len({text for _, text, _ in rows}) == len(rows) > 800
    assert not any("::=" in text or "****" in text or ">>>" in text for _, text, _ in rows)
    topic = (
        'Heading\n*******\n\nA sentence on\ntwo lines.\n\n   code = "indented"\n\n* One more item.'
    )
    assert prose(topic) == ["A sentence on two lines."]
    assert prose("   Indented words are prose too.") == ["Indented words are prose too."]


def test_text_files_by_paragraph_line_file_and_name(data):
    text_folder(data)
    lines = TextFiles(data_dir=str(data / "book.txt"), unit="line")
    assert sum(len(lines.rows(split)) for split in SPLITS) == 400
    paragraphs = TextFiles(data_dir=str(data))
    assert ("book.txt:4", "Paragraph 1\nhas two lines.", "book.txt#00") in [
        row for split in SPLITS for row in paragraphs.rows(split)
    ]
    (data / "book.txt").rename(data / "train.txt")
    (data / "test.txt.gz").write_bytes(gzip.compress(b"held out\n"))
    assert [text for _, text, _ in TextFiles(data_dir=str(data)).rows("test")] == ["held out"]
    for number in range(40):
        (data / f"story{number}.txt").write_text("once\n\nupon")
    (data / "train.txt").unlink()
    groups = {group for split in SPLITS for *_, group in TextFiles(data_dir=str(data)).rows(split)}
    assert "story7.txt" in groups


def test_broken_text_is_named_and_skipped_or_refused(data):
    text_folder(data)
    with (data / "book.txt").open("ab") as file:
        file.write(b"\n\nbroken \xff here\n")
    source = TextFiles(data_dir=str(data))
    assert sum(len(source.rows(split)) for split in SPLITS) == 200
    assert source.skipped == (f"{data}/book.txt, line 601: is not UTF-8",)
    with pytest.raises(UserError, match=r"1 damaged .*book\.txt, line 601"):
        TextFiles(data_dir=str(data), strict=True).load("train")
    (data / "book.txt").write_bytes(b"\xff")
    with pytest.raises(UserError, match="there is no text in it"):
        TextFiles(data_dir=str(data)).load("train")


@pytest.mark.data
def test_real_files(data_dir):
    folder = pathlib.Path(data_dir)

    def sizes(source: Source) -> list[int]:
        return [sum(1 for _ in source.load(split).batch(100)) for split in source.splits]

    assert sizes(Mnist(data_dir=str(folder / "mnist"))) == [550, 50, 100]
    assert sizes(Cifar(data_dir=str(folder / "cifar10_subset"))) == [90, 10, 20]
    multi30k = {"source_language": "en", "target_language": "de"}
    assert sizes(ParallelText(data_dir=str(folder / "multi30k"), **multi30k)) == [290, 11, 10]
