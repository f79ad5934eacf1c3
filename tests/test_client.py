"""The client: light, told by the model's signature what to send, clear about what goes wrong."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from serving import wire
from serving.client import (
    Client,
    DeadlineExceededError,
    Field,
    InputError,
    InvalidRequestError,
    NotFoundError,
    Signature,
    UnavailableError,
    VersionStatus,
    main,
    prepare,
)
from serving.server import tensors
from tests.served_models import REPOSITORY, free_port, running_server, save_scale


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where a server process serves the model ``scale``."""
    base_path = tmp_path_factory.mktemp("scale")
    save_scale(base_path / "7", 2.0)
    with running_server("--model_name=scale", f"--model_base_path={base_path}") as (_, port):
        yield f"localhost:{port}"


@pytest.fixture
def client(address):
    with Client(address) as client:
        yield client


def test_importing_the_client_is_cheap():
    script = (
        "import sys, serving.client\n"
        "heavy = {'tensorflow', 'keras', 'tensorflow_serving', 'jax'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "print(next(l.split()[1] for l in open('/proc/self/status') if l.startswith('VmRSS')))"
    )
    output = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    assert int(output) < 80 * 1024


def test_single_examples_are_answered_without_a_batch_axis(client):
    assert client.predict("scale", x=3) == {"y": 6.0}
    answer = client.predict("scale", signature="repeat", text="aé", times=2)
    assert answer == {"texts": "aéaé", "lengths": 4}
    assert type(answer["lengths"]) is int


def test_batches(client):
    answer = client.predict("scale", x=[1, 2.5])["y"]
    assert answer.dtype == np.float32
    assert answer.tolist() == [2, 5]
    assert client.predict("scale", x=np.ones(1))["y"].tolist() == [2]
    assert client.predict("scale", x=[])["y"].shape == (0,)


def test_a_single_example_counts_for_a_whole_batch(client):
    answer = client.predict("scale", signature="repeat", text=["a", b"b"], times=3)
    assert answer["texts"].tolist() == ["aaa", "bbb"]


def test_a_further_axis_and_an_output_without_examples(client):
    answer = client.predict("scale", signature="multiply", rows=[1, 2])
    assert answer["product"].tolist() == [3, 3, 3]
    assert answer["count"] == 1


def test_only_a_path_is_a_file(client, tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"from a file")
    inputs = {"signature": "repeat", "times": 1}
    assert client.predict("scale", text=path, **inputs)["texts"] == "from a file"
    assert client.predict("scale", text=str(path), **inputs)["texts"] == str(path)
    np.save(tmp_path / "x.npy", np.arange(3.0))
    assert client.predict("scale", x=tmp_path / "x.npy")["y"].tolist() == [0, 2, 4]


def test_strings_that_are_no_text_stay_bytes(client):
    answer = client.predict("scale", signature="repeat", text=[b"\xff\0", b"b"], times=1)
    assert answer["texts"].tolist() == [b"\xff\0", b"b"]


def test_names_that_a_keyword_can_not_be(client):
    assert client.predict("scale", {"x": 1.0}) == {"y": 2.0}


def test_signatures_and_status(client):
    signature = client.signatures("scale")["repeat"]
    assert signature.inputs["text"] == Field("string", (None,))
    assert signature.outputs["lengths"] == Field("int32", (None,))
    assert client.status("scale") == [VersionStatus(7, "AVAILABLE", "")]
    assert client.predict("scale", x=1, version=7) == {"y": 2.0}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"z": 1}, r"unknown input z; the model takes x: float32 \[\?\]"),
        ({}, r"missing x; the model takes x: float32 \[\?\]"),
        ({"x": "one"}, r"x must be float32 \[\?\]: got <U3"),
        ({"x": [[1], [2]]}, r"x must be float32 \[\?\], not of shape \[2, 1\]"),
        ({"x": [[1], [2, 3]]}, r"x must be float32 \[\?\]: .*inhomogeneous"),
    ],
)
def test_inputs_that_do_not_fit_are_not_sent(client, values, message):
    with pytest.raises(InputError, match=message):
        client.predict("scale", **values)


def test_numbers_and_texts_are_checked():
    signature = Signature({"n": Field("int8", (None,)), "s": Field("string", (None,))}, {})
    with pytest.raises(InputError, match="n must be int8"):
        prepare(signature, {"n": 1.5, "s": ""})
    with pytest.raises(InputError, match="a number is out of range"):
        prepare(signature, {"n": 1000, "s": ""})
    with pytest.raises(InputError, match="5 is neither text, bytes nor a file"):
        prepare(signature, {"n": 1, "s": 5})
    with pytest.raises(InputError, match="unequal numbers of examples: n 2, s 1"):
        prepare(signature, {"n": [1, 2], "s": [""]})
    with pytest.raises(InputError, match="can't read nowhere: No such file"):
        prepare(signature, {"n": 1, "s": pathlib.Path("nowhere")})


def test_the_server_s_errors_are_typed(client):
    with pytest.raises(NotFoundError) as caught:
        client.predict("nothing", x=1)
    assert caught.value.code == "NOT_FOUND"
    assert caught.value.message == "Servable not found for request: Latest(nothing)"
    with pytest.raises(NotFoundError, match=r"Specific\(scale, 3\)"):
        client.predict("scale", x=1, version=3)
    with pytest.raises(InvalidRequestError, match="Unrecognized servable version label: stable"):
        client.predict("scale", x=1, label="stable")
    with pytest.raises(InvalidRequestError, match="Matrix size-incompatible"):
        client.predict("scale", signature="multiply", rows=[[1, 2, 3]])
    client.predict("scale", x=1)
    with pytest.raises(DeadlineExceededError):
        client.predict("scale", signature="slow", x=1, timeout=0.05)
    with pytest.raises(InputError, match="has no signature 'fast'; there is: multiply, repeat"):
        client.predict("scale", signature="fast", x=1)


def test_nobody_listens():
    with Client(f"localhost:{free_port()}") as client, pytest.raises(UnavailableError):
        client.predict("scale", x=1)


@pytest.mark.parametrize("dtype", [*sorted(wire._NUMBERS)])
def test_tensors_are_the_server_s(dtype):
    if dtype == "string":
        array = np.array([[b"a\0", b""], [b"\xff", b"x" * 300]], object)
    else:
        array = tf.cast(tf.constant([[0, 1, 2], [3, 100, 1]]), dtype).numpy()
        array = array.astype(wire.numpy_type(dtype))
    sent = wire.encode(array, dtype).SerializeToString()
    received = tf.io.parse_tensor(sent, dtype).numpy()
    np.testing.assert_array_equal(received.astype(array.dtype), array)
    with_values = tensors.encode(received).SerializeToString()
    with_content = tf.io.serialize_tensor(received).numpy()
    for answer in (with_values, with_content):
        decoded = wire.decode(wire.Tensor.FromString(answer))
        assert decoded.dtype == array.dtype
        np.testing.assert_array_equal(decoded, array)


def test_strings_as_contents_are_lengths_then_bytes():
    tensor = wire.Tensor(dtype=7, tensor_content=b"\x01\xac\x02" + b"a" + b"b" * 300)
    tensor.tensor_shape.dim.add(size=2)
    assert wire.decode(tensor).tolist() == [b"a", b"b" * 300]


def command(address: str, *arguments: str) -> int:
    return main(["scale", "--host", address, *arguments])


def test_the_command_prints_an_answer(address, capsys, tmp_path):
    path = tmp_path / "text"
    path.write_text("né")
    arguments = ("--signature", "repeat", "--text", f"@{path}", "--times", "2")
    assert command(address, *arguments) == 0
    assert capsys.readouterr().out == "lengths: 4\ntexts: néné\n"
    assert command(address, "--x", "1", "-2.5", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"y": [2.0, -5.0]}
    assert command(address, "--x", "[1, 2]", "--version", "7") == 0
    assert capsys.readouterr().out == "y: 2, 4\n"
    assert command(address, "--x", json.dumps([1] * 60)) == 0
    assert capsys.readouterr().out == "y: float32 [60] (--json prints the numbers)\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--z", "1"], "error: unknown argument --z; the model takes --x (float32 [?])\n"),
        ([], "error: missing x; the model takes x: float32 [?]\n"),
        (["--x", "one"], "error: x must be float32 [?], not 'one'\n"),
        (["--x", "@nowhere.npy"], "error: x: can't read nowhere.npy: No such file or directory\n"),
        (
            ["--x", "1", "--version", "3"],
            "error: NOT_FOUND: Servable not found for request: Specific(scale, 3)\n",
        ),
    ],
)
def test_the_command_fails_in_one_line(address, capsys, arguments, message):
    assert command(address, *arguments) == 1
    assert capsys.readouterr().err == message
