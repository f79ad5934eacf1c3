"""Exports: whole or not at all, checked before they are seen, and never a surprise to clients."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from pipelines.engine.application import UserError
from serving.export import BATCHING_FILE, LABELS_FILE, WARMUP_FILE, export_functions, main
from serving.server.saved_model import SavedModel
from serving.server.warmup import warm_up
from tests.conftest import run_python
from tests.served_models import REPOSITORY

TEXTS = np.array([b"ab", b"\xc3\xa9"], object)


class Lengths(tf.Module):
    """text → its length and itself, through a table and a variable; both must be held on to."""

    def __init__(self):
        self.one = tf.Variable(1.0)
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(["ab"], ["known"]), "unknown"
        )

    def function(self, dtype=tf.float32):
        @tf.function
        def answer(**inputs):
            length = tf.cast(tf.strings.length(inputs["text"]), tf.float32)
            return {
                "lengths": tf.cast(self.one * length, dtype),
                "labels": self.table.lookup(inputs["text"]),
            }

        return answer.get_concrete_function(text=tf.TensorSpec([None], tf.string, name="text"))


def export(base_path: pathlib.Path, *, dtype=tf.float32, module=None, **options) -> pathlib.Path:
    module = module or Lengths()
    return export_functions(
        {"serving_default": module.function(dtype)},
        base_path,
        trackables=[module.one, module.table],
        samples={"serving_default": {"text": TEXTS}},
        **options,
    )


def test_a_version_folder_holds_what_a_server_needs(tmp_path):
    folder = export(tmp_path / "deep" / "lengths", labels=["known", "unknown"])
    assert folder == tmp_path / "deep" / "lengths" / "1"
    assert [path.name for path in folder.parent.iterdir()] == ["1"]
    assert (folder / LABELS_FILE).read_text() == "known\nunknown\n"
    records = [
        prediction_log_pb2.PredictionLog.FromString(record)
        for record in tf.data.TFRecordDataset(str(folder / WARMUP_FILE)).as_numpy_iterator()
    ]
    requests = [record.predict_log.request for record in records]
    assert [list(r.inputs["text"].string_val) for r in requests] == [[b"ab"], list(TEXTS)]
    assert {r.model_spec.name for r in requests} == {"lengths"}
    model = SavedModel(folder)
    assert warm_up(model) == 2
    signature = model.signatures["serving_default"]
    assert set(signature.inputs) == {"text"}
    assert set(signature.outputs) == {"lengths", "labels"}
    model.close()


def test_versions_count_up_and_leave_gaps_alone(tmp_path):
    assert export(tmp_path).name == "1"
    (tmp_path / "1").rename(tmp_path / "41")
    (tmp_path / "notes").mkdir()
    assert export(tmp_path).name == "42"
    assert not (tmp_path / "42" / LABELS_FILE).exists()


def test_other_signatures_need_force(tmp_path):
    export(tmp_path)
    with pytest.raises(
        UserError,
        match=r"differ from those of .*1, .*\(serving_default output lengths: "
        r"float32 \(None,\) → int32 \(None,\)\); --force",
    ):
        export(tmp_path, dtype=tf.int32)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert export(tmp_path, dtype=tf.int32, force=True).name == "2"


def test_a_model_that_answers_otherwise_is_not_exported(tmp_path):
    (tmp_path / "calls").write_text("")
    base_path = tmp_path / "model"

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def counted(text):
        calls = tf.io.read_file(str(tmp_path / "calls"))
        with tf.control_dependencies([calls]):
            tf.io.write_file(str(tmp_path / "calls"), calls + "|")
        return {"lengths": tf.fill(tf.shape(text), calls)}

    with pytest.raises(UserError, match="serving_default lengths is array"):
        export_functions(
            {"serving_default": counted},
            base_path,
            trackables=[],
            samples={"serving_default": {"text": TEXTS}},
        )
    assert not list(base_path.iterdir())


def test_a_base_path_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"no version was written to .*file: .*Not a directory"):
        export(tmp_path / "file")


# A process of its own, that exports eight megabytes.
LARGE_EXPORT = """
import resource, sys
import numpy as np, tensorflow as tf
from pipelines.engine.application import UserError
from serving.export import export_functions
weights = tf.Variable(tf.random.stateless_uniform([2_000_000], [0, 0]))
def answer(**inputs):
    return {"y": inputs["x"] * tf.reduce_sum(weights)}
concrete = tf.function(answer).get_concrete_function(x=tf.TensorSpec([None], tf.float32, name="x"))
class Samples(dict):
    def items(self):
        print("written", flush=True)
        sys.stdin.read()
        return super().items()
if sys.argv[2] == "disk full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    export_functions({"serving_default": concrete}, sys.argv[1], trackables=[weights],
                     samples=Samples(serving_default={"x": np.ones(1, np.float32)}))
except UserError as error:
    sys.exit(str(error))
"""


def test_a_disk_that_fills_up_leaves_nothing(tmp_path):
    result = run_python("-c", LARGE_EXPORT, tmp_path, "disk full")
    assert result.returncode == 1
    assert f"no version was written to {tmp_path}: " in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())


def test_an_export_that_is_killed_shows_no_version(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", LARGE_EXPORT, tmp_path, "kill"],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "written\n"
    process.kill()
    process.communicate()
    (hidden,) = tmp_path.iterdir()
    assert (hidden / "saved_model.pb").is_file()
    assert hidden.name.startswith(".")
    assert export(tmp_path).name == "1"


def test_batching_parameters_are_those_of_tensorflow_serving(tmp_path):
    text = (export(tmp_path) / BATCHING_FILE).read_text()
    names = {line.split()[0] for line in text.splitlines() if not line.startswith("#")}
    assert names == {"max_batch_size", "batch_timeout_micros", "max_enqueued_batches"}


def test_the_command_names_what_is_wrong(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "nothing")])
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    assert str(tmp_path / "nothing") in message
