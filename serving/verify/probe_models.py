"""The models that the checks ask about, and the configuration to serve them by.

``half_plus_version`` is a graph of TensorFlow 1's kind, as TensorFlow Serving's own test models
are: only there do several signatures share an input, which MultiInference requires. Version 1
answers x / 2 + 1 and version 2 answers x / 2 + 2. ``matrix`` is saved as Keras models are.
"""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Mapping

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from serving.verify.messages import MODEL

tf1 = tf.compat.v1

VERSIONS = (1, 2)
LABELS = {"stable": 1, "canary": 2}
MATRIX = "matrix"
ECHOED = (
    *(tf.float32, tf.float64, tf.half, tf.bfloat16, tf.bool, tf.string, tf.complex64),
    *(tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16, tf.uint32, tf.uint64),
)
MONITORING = "prometheus_config { enable: true }\n"


def write_models(folder: pathlib.Path) -> None:
    """Writes the models, ``models.config`` and ``monitoring.config`` into a folder.

    Raises:
        FileExistsError: if one of the models is there already.
    """
    folder = folder.resolve()
    for version in VERSIONS:
        _write_half_plus_version(folder / MODEL / str(version), version)
    _write_matrix(folder / MATRIX / "1")
    (folder / "models.config").write_text(model_config(str(folder)))
    (folder / "monitoring.config").write_text(MONITORING)


def model_config(folder: str, labels: Mapping[str, int] = LABELS) -> str:
    """The text ModelServerConfig of the models in a folder."""
    labelled = "".join(
        f'    version_labels {{ key: "{label}" value: {version} }}\n'
        for label, version in labels.items()
    )
    return f"""model_config_list {{
  config {{
    name: "{MODEL}"
    base_path: "{folder}/{MODEL}"
    model_platform: "tensorflow"
    model_version_policy {{ all {{}} }}
{labelled}  }}
  config {{ name: "{MATRIX}" base_path: "{folder}/{MATRIX}" model_platform: "tensorflow" }}
}}
"""


def server_flags(folder: pathlib.Path) -> list[str]:
    """The flags of either server that the checks expect, besides its ports."""
    folder = folder.resolve()
    return [
        f"--model_config_file={folder}/models.config",
        # Labels are looked up before the models are loaded: without this there would be no start.
        "--allow_version_labels_for_unavailable_models",
        f"--monitoring_config_file={folder}/monitoring.config",
        "--rest_api_enable_cors_support",
        "--enable_grpc_healthcheck_service",
    ]


def _write_half_plus_version(folder: pathlib.Path, version: int) -> None:
    hidden = _hidden(folder)
    with tf.Graph().as_default(), tf1.Session() as session:
        offset = tf1.Variable(float(version), use_resource=True)
        signatures = {
            **_predict_signatures(offset),
            **_example_signatures(offset),
            **{f"echo_{dtype.name}": _echo_signature(dtype) for dtype in ECHOED},
        }
        session.run(tf1.global_variables_initializer())
        builder = tf1.saved_model.Builder(str(hidden))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()
    hidden.rename(folder)


def _write_matrix(folder: pathlib.Path) -> None:
    hidden = _hidden(folder)
    module = tf.Module()
    module.factors = tf.Variable(tf.ones([4, 2]))

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="rows")])
    def multiply(rows):
        return {"product": rows @ module.factors}

    tf.saved_model.save(module, str(hidden), signatures=multiply)
    hidden.rename(folder)


def _hidden(folder: pathlib.Path) -> pathlib.Path:
    """A fresh place beside a version folder: a server that runs must not see it half written."""
    if folder.exists():
        raise FileExistsError(f"{folder} is there already")
    hidden = folder.with_name(f".{folder.name}")
    shutil.rmtree(hidden, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    return hidden


def _signature(
    inputs: Mapping[str, tf.Tensor],
    outputs: Mapping[str, tf.Tensor],
    method: str = "predict",
    defaults: Mapping[str, float] | None = None,
) -> meta_graph_pb2.SignatureDef:
    signature = tf1.saved_model.build_signature_def(
        {name: tf1.saved_model.build_tensor_info(value) for name, value in inputs.items()},
        {name: tf1.saved_model.build_tensor_info(value) for name, value in outputs.items()},
        f"tensorflow/serving/{method}",
    )
    for name, value in (defaults or {}).items():
        signature.defaults[name].CopyFrom(tf.make_tensor_proto(value, tf.float32))
    return signature


def _predict_signatures(offset: tf.Variable) -> dict[str, meta_graph_pb2.SignatureDef]:
    def placeholder(name: str, shape: list[int | None] | None = None) -> tf.Tensor:
        return tf1.placeholder(tf.float32, shape, name=name)

    x = placeholder("serving_default_x", [None])
    one, other = placeholder("add_one", [None]), placeholder("add_other", [None])
    shift = placeholder("shift_by")
    text = tf1.placeholder(tf.string, [None], name="both_text")
    rounds = tf1.while_loop(lambda i: i < 2_000_000, lambda i: i + 1, [tf.constant(0)])
    half = x / 2 + offset
    return {
        "serving_default": _signature({"x": x}, {"y": half}),
        "add": _signature(
            {"one": one, "other": other}, {"total": one + other, "less": one - other}
        ),
        "shift": _signature({"x": x, "by": shift}, {"y": x + shift}, defaults={"by": 10.0}),
        "slow": _signature({"x": x}, {"y": half + 0 * tf.cast(rounds, tf.float32)}),
        "scalar": _signature({"x": x}, {"y": tf.reduce_sum(x)}),
        "uneven": _signature({"x": x}, {"y": tf.identity(x), "z": tf.concat([x, x], 0)}),
        "halved": _signature({"x": x}, {"y": tf.cast(x, tf.half)}),
        "both": _signature(
            {"text": text}, {"text": tf.identity(text), "text_bytes": tf.identity(text)}
        ),
    }


def _example_signatures(offset: tf.Variable) -> dict[str, meta_graph_pb2.SignatureDef]:
    serialized = tf1.placeholder(tf.string, [None], name="examples")
    x = tf.io.parse_example(serialized, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"]
    y = x / 2 + offset
    inputs = {"inputs": serialized}
    scores = tf.concat([y, -y], 1)
    names = tf.where(scores > 0, "positive", "negative")

    def classify(outputs: dict, inputs: dict = inputs) -> meta_graph_pb2.SignatureDef:
        return _signature(inputs, outputs, "classify")

    def regress(outputs: dict, inputs: dict = inputs) -> meta_graph_pb2.SignatureDef:
        return _signature(inputs, outputs, "regress")

    return {
        "classify": classify({"classes": names, "scores": scores}),
        "classify_scores": classify({"scores": y}),
        "classify_names": classify({"classes": names}),
        "classify_two_inputs": classify({"scores": y}, {**inputs, "x": x}),
        "classify_three_outputs": classify({"classes": names, "scores": scores, "third": y}),
        "classify_other_input": classify({"scores": y}, {"rows": serialized}),
        "classify_numbers": classify({"classes": scores}),
        "classify_integers": classify({"scores": tf.cast(scores, tf.int32)}),
        "classify_flat": classify({"scores": scores[:, 0]}),
        "regress": regress({"outputs": y}),
        "regress_flat": regress({"outputs": y[:, 0]}),
        "regress_two_inputs": regress({"outputs": y}, {**inputs, "x": x}),
        "regress_two_outputs": regress({"outputs": y, "second": y}),
        "regress_other_input": regress({"outputs": y}, {"rows": serialized}),
        "regress_wide": regress({"outputs": scores}),
        "regress_integers": regress({"outputs": tf.cast(y, tf.int32)}),
    }


def _echo_signature(dtype: tf.DType) -> meta_graph_pb2.SignatureDef:
    """y is x, of any shape."""
    x = tf1.placeholder(dtype, None, name=f"echo_{dtype.name}_x")
    return _signature({"x": x}, {"y": tf.identity(x)})
