"""The client: light, told by the model's signature what to send, clear about what goes wrong."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from serving import wire
from serving.client import (
    AsyncClient,
    BadRowError,
    Client,
    DeadlineExceededError,
    Field,
    InputError,
    InvalidRequestError,
    NotFoundError,
    Signature,
    VersionStatus,
)
from serving.client.__main__ import main
from serving.client.signature import prepare
from serving.server import tensors
from tests.served_models import (
    REPOSITORY,
    running_server,
    save_half_plus_two,
    save_scale,
    write_configuration,
)


class Parser(tf.Module):
    """Texts to numbers; a text that is none fails the batch, by the code INVALID_ARGUMENT."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="text"),
            tf.TensorSpec([None, 2], tf.uint8, name="pair"),
            tf.TensorSpec([], tf.float32, name="factor"),
        ]
    )
    def parse(self, text, pair, factor):
        number = factor * tf.strings.to_number(text)
        return {
            "number": number,
            "sum": tf.reduce_sum(tf.cast(pair, tf.int32), axis=1),
            "text": text,
            "pair": pair,
            "rows": tf.size(text),
        }


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where a server process serves the models ``scale``, ``parser`` and ``half_plus_two``."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("scale", "parser"):
        (folder / name).mkdir()
    save_scale(folder / "scale" / "7", 2.0)
    parser = Parser()
    tf.saved_model.save(parser, str(folder / "parser" / "1"), signatures=parser.parse)
    save_half_plus_two(folder / "half_plus_two" / "1")
    configuration = write_configuration(folder.parent / f"{folder.name}.config", folder)
    with running_server(f"--model_config_file={configuration}") as (_, port):
        yield f"localhost:{port}"


class Awaited:
    """An AsyncClient whose answers are waited for, so that one test asks with both clients."""

    def __init__(self, loop: asyncio.AbstractEventLoop, client: AsyncClient):
        self._loop = loop
        self._client = client

    def __getattr__(self, name: str):
        def ask(*arguments, **keywords):
            outcome = getattr(self._client, name)(*arguments, **keywords)
            if inspect.isasyncgen(outcome):
                return self._iterate(outcome)
            return self._loop.run_until_complete(outcome)

        return ask

    def _iterate(self, answers) -> Iterator:
        try:
            while True:
                yield self._loop.run_until_complete(anext(answers))
        except StopAsyncIteration:
            pass
        finally:
            self._loop.run_until_complete(answers.aclose())


@pytest.fixture(params=["blocking", "asyncio"])
def client(address, request):
    if request.param == "blocking":
        with Client(address) as client:
            yield client
        return

    async def connect() -> AsyncClient:
        return AsyncClient(address)

    with asyncio.Runner() as runner:
        client = Awaited(runner.get_loop(), runner.run(connect()))
        yield client
        client.close()


def run_fresh(script: str) -> str:
    """What a new interpreter prints."""
    return subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout


def test_classify_and_regress(client):
    examples = [{"x": 2.0}, {"x": 4.0}]
    values = client.regress("half_plus_two", examples)
    assert values.tolist() == [3.0, 4.0]
    answer = client.classify("half_plus_two", examples, signature="both")
    assert answer == [[("half", 3.0), ("two", 4.0)], [("half", 4.0), ("two", 5.0)]]
    assert client.regress("half_plus_two", {}, context={"x": 2.0}) == 3.0
    with pytest.raises(InvalidRequestError, match="No signature was found with the name: none"):
        client.classify("half_plus_two", examples, signature="none")


def test_importing_the_client_is_cheap():
    script = (
        "import sys, serving.client\n"
        "unwanted = {'tensorflow', 'keras', 'tensorflow_serving', 'jax', 'rich'}\n"
        "assert not unwanted & set(sys.modules)\n"
        "print(next(l.split()[1] for l in open('/proc/self/status') if l.startswith('VmRSS')))"
    )
    assert int(run_fresh(script)) < 80 * 1024


@pytest.mark.parametrize("order", [1, -1], ids=["client first", "TensorFlow first"])
def test_the_client_lives_beside_tensorflow_and_its_messages(order):
    imports = [
        "from serving import client, wire",
        "from tensorflow_serving.apis import predict_pb2",
    ]
    script = (
        *imports[::order],
        "ours = wire.PredictRequest(model_spec=wire.ModelSpec(name='m'))",
        "theirs = predict_pb2.PredictRequest.FromString(ours.SerializeToString())",
        "print(theirs.model_spec.name, wire.PredictRequest.FromString(theirs.SerializeToString()))",
    )
    assert run_fresh("\n".join(script)).startswith("m model_spec")


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


def test_integers_go_into_any_type_that_holds_them():
    signature = Signature({"n": Field("uint8", (None,)), "f": Field("float32", (None,))}, {})
    arrays, single = prepare(signature, {"n": [0, 255], "f": np.arange(2)})
    assert [(array.dtype.name, array.tolist()) for array in arrays.values()] == [
        ("uint8", [0, 255]),
        ("float32", [0, 1]),
    ]
    assert not single
    given = np.zeros(3, np.float32)
    assert prepare(signature, {"n": 1, "f": given})[0]["f"] is given
    with pytest.raises(InputError, match="a number is out of range"):
        prepare(signature, {"n": [-1], "f": 0})


def test_numbers_and_texts_are_checked(tmp_path):
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
    (tmp_path / "empty.npy").touch()
    with pytest.raises(InputError, match="n must be int8"):
        prepare(signature, {"n": tmp_path / "empty.npy", "s": ""})


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
    with pytest.raises(InputError, match="has no signature 'fast'; there is: endless, multiply"):
        client.predict("scale", signature="fast", x=1)


def numbers(answers) -> list[float]:
    return [answer["number"] for answer in answers]


def test_many_examples_are_answered_in_order(client):
    count = 1000
    answers = client.predict_many(
        "parser",
        text=(str(number) for number in range(count)),
        pair=np.full((count, 2), 100, np.uint8),
        factor=2,
        batch_size=7,
        in_flight=3,
    )
    answers = list(answers)
    assert numbers(answers) == [2.0 * number for number in range(count)]
    assert {answer["sum"] for answer in answers} == {200}
    assert [answer["rows"] for answer in answers] == [7] * 994 + [6] * 6
    assert answers[5]["pair"].tolist() == [100, 100]
    assert answers[5]["text"] == "5"


def test_a_single_example_counts_for_many(client):
    inputs = {"text": ("1", "2"), "pair": [3, 4], "factor": np.float32(3)}
    for pair in ([3, 4], np.array([3, 4])):
        answers = list(client.predict_many("parser", inputs, pair=pair))
        assert numbers(answers) == [3, 6]
        assert [answer["sum"] for answer in answers] == [7, 7]
    answers = client.predict_many("scale", signature="repeat", text=iter("abc"), times=2)
    assert [answer["texts"] for answer in answers] == ["aa", "bb", "cc"]


def test_many_examples_from_files(client, tmp_path):
    pairs = [tmp_path / f"{number}.npy" for number in range(3)]
    for number, path in enumerate(pairs):
        np.save(path, np.array([number, 1], np.uint8))
    answers = client.predict_many("parser", text="1", pair=pairs, factor=1)
    assert [answer["sum"] for answer in answers] == [1, 2, 3]
    np.save(tmp_path / "all.npy", np.arange(100.0))
    answers = client.predict_many("scale", x=tmp_path / "all.npy", batch_size=30)
    assert [answer["y"] for answer in answers] == [2.0 * number for number in range(100)]
    with pytest.raises(InputError, match="x: can't read"):
        next(client.predict_many("scale", x=tmp_path / "nowhere.npy"))


def test_no_examples_have_no_answers(client):
    assert list(client.predict_many("scale", x=[])) == []
    assert list(client.predict_many("scale", x=iter(()))) == []
    assert list(client.predict_many("parser", text="1", pair=[], factor=1)) == []


def test_bad_rows_are_named_and_the_others_answered(client, tmp_path):
    texts = [str(number) for number in range(12)]
    texts[4] = "four"
    texts[9] = tmp_path / "nowhere"
    pairs = [[0, 1] for _ in texts]
    pairs[11] = [0, 1000]
    answers = list(
        client.predict_many("parser", text=texts, pair=iter(pairs), factor=1, batch_size=5)
    )
    bad = {row: answers[row] for row in (4, 9, 11)}
    good = [answer for answer in answers if not isinstance(answer, BadRowError)]
    assert numbers(good) == [0, 1, 2, 3, 5, 6, 7, 8, 10]
    assert [error.row for error in bad.values()] == [4, 9, 11]
    assert isinstance(bad[4].reason, InvalidRequestError)
    assert "could not correctly convert string: four" in bad[4].reason.message
    assert str(bad[9]).startswith("row 9: text: can't read")
    assert str(bad[11]) == "row 11: pair must be uint8 [?, 2]: a number is out of range"
    with pytest.raises(BadRowError, match="row 4: INVALID_ARGUMENT"):
        bad[4]["number"]


def test_rows_of_one_batch_are_text_or_bytes_each_for_itself(client):
    answers = client.predict_many("scale", signature="repeat", text=["a", b"\xff"], times=1)
    assert [answer["texts"] for answer in answers] == ["a", b"\xff"]


def test_an_endless_input_is_read_no_further_than_needed(client):
    read = 0

    def endless():
        nonlocal read
        for number in itertools.count():
            read = number + 1
            yield float(number)

    answers = client.predict_many("scale", x=endless(), batch_size=4, in_flight=2)
    assert [next(answers)["y"] for _ in range(4)] == [0, 2, 4, 6]
    assert read == 12
    assert next(answers)["y"] == 8
    answers.close()
    assert read == 16


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"text": "1", "pair": [0, 1]}, "missing factor; the model takes factor: float32 "),
        ({"text": ["1"], "pair": 0, "factor": 1}, "0 is no iterable of examples"),
        ({"text": "1", "pair": [0, 1], "factor": 1}, "no input holds many examples"),
        ({"text": ["1"], "pair": [[0, 1]] * 2, "factor": 1}, "unequal .*: text 1, pair 2"),
        ({"text": ["1"], "pair": None, "factor": 1}, "None is no iterable of examples"),
    ],
)
def test_many_examples_that_do_not_fit_together(client, values, message):
    with pytest.raises(InputError, match=message):
        list(client.predict_many("parser", values))
    with pytest.raises(InputError, match="at least 1"):
        next(client.predict_many("parser", values, batch_size=0))


def test_an_iterable_that_ends_before_another(client):
    inputs = {"text": iter("123"), "pair": iter([[0, 1]] * 4), "factor": 1}
    with pytest.raises(InputError, match="unequal numbers of examples: text 3, pair 4"):
        list(client.predict_many("parser", inputs, batch_size=2))


def test_rows_of_another_rank_are_no_single_example(client):
    inputs = {"text": ["1", "2"], "pair": iter([3, 4]), "factor": 1}
    answers = list(client.predict_many("parser", inputs))
    assert str(answers[1]) == "row 1: pair must be uint8 [?, 2], not of shape [1]"


def test_other_errors_end_many_examples(client):
    with pytest.raises(NotFoundError, match=r"Latest\(nothing\)"):
        next(client.predict_many("nothing", x=[1]))
    client.signatures("scale")
    with pytest.raises(DeadlineExceededError):
        next(client.predict_many("scale", signature="slow", x=[1], timeout=0.05))


def test_the_progress_bar_counts_to_the_end(client, capsys):
    assert len(list(client.predict_many("scale", x=range(70), progress=True))) == 70
    printed = capsys.readouterr()
    assert "scale" in printed.err
    assert "100%" in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("dtype", [*sorted(wire._NUMBERS)])
def test_tensors_are_the_server_s(dtype):
    if dtype == "string":
        array = np.array([[b"a\0", b""], [b"\xff", b"x" * 300]], object)
    else:
        array = tf.cast(tf.constant([[0, 1, 2], [3, 100, 1]]), dtype).numpy()
        array = array.astype(wire.numpy_type(dtype))
    sent = b"".join(wire.encode(array, dtype))
    received = tf.io.parse_tensor(sent, dtype).numpy()
    np.testing.assert_array_equal(received.astype(array.dtype), array)
    with_values = tensors.encode(received).SerializeToString()
    with_content = tf.io.serialize_tensor(received).numpy()
    for answer in (with_values, with_content):
        decoded = wire.decode(wire.Tensor.FromString(answer))
        assert decoded.dtype == array.dtype
        assert decoded.flags.writeable
        np.testing.assert_array_equal(decoded, array)


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (1,), (127,), (128,), (50_000,)])
def test_requests_are_those_of_the_stubs(shape):
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    transposed = np.asfortranarray(np.arange(6).reshape(2, 3))
    texts = np.array([b"a", b"\xff" * 300], object)
    spec = wire.ModelSpec(name="m", signature_name="s")
    inputs = {"x": ("float32", array), "t": ("int64", transposed), "é": ("string", texts)}
    request = predict_pb2.PredictRequest.FromString(wire.predict_request(spec, inputs))
    assert (request.model_spec.name, request.model_spec.signature_name) == ("m", "s")
    assert set(request.inputs) == set(inputs)
    for name, (_, expected) in inputs.items():
        received = tf.make_ndarray(request.inputs[name])
        assert received.shape == expected.shape
        np.testing.assert_array_equal(received, expected)


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
    assert command(address, "--x", "117650.2", "0.125", "1e20") == 0
    assert capsys.readouterr().out == "y: 235300, 0.25, 2e+20\n"
    assert command(address, "--x", json.dumps([1] * 60)) == 0
    assert capsys.readouterr().out == "y: float32 [60] (--json prints the numbers)\n"


def test_the_command_asks_about_many_files(address, capsys, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"12")
    (tmp_path / "b.bin").write_bytes(b"x")
    (tmp_path / "c.txt").write_text("3\n4\n")
    files = [str(tmp_path / name) for name in ("a.bin", "b.bin", "c.txt")]
    asked = ("--host", address, "--pair", "[1, 2]", "--factor", "2", "--files", *files)
    assert main(["parser", *asked, "--json"]) == 1
    printed = capsys.readouterr()
    answers = [json.loads(line) for line in printed.out.splitlines()]
    assert [answer["file"] for answer in answers] == [files[0], f"{files[2]}:1", f"{files[2]}:2"]
    assert numbers(answers) == [24, 6, 8]
    assert printed.err.startswith(f"error: {files[1]}: INVALID_ARGUMENT: StringToNumber")
    assert main(["scale", "--host", address, "--files", str(tmp_path / "c.txt")]) == 0
    expected = "".join(f"{files[2]}:{line}:\n  y: {y}\n" for line, y in [(1, 6), (2, 8)])
    assert capsys.readouterr() == (expected, "")


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
        (
            ["--signature", "repeat", "--files", "a"],
            "error: --files fills the one feature that is not given; left is --text, --times\n",
        ),
        (
            ["--files", "nowhere.txt"],
            "error: x: can't read nowhere.txt: No such file or directory\n",
        ),
        (["--tls_key", "a"], "error: a client's certificate and its private key go together\n"),
    ],
)
def test_the_command_fails_in_one_line(address, capsys, arguments, message):
    assert command(address, *arguments) == 1
    assert capsys.readouterr().err == message
