"""JSON to requests, answers to JSON: formats, numbers as text, and TensorFlow Serving's words."""

from __future__ import annotations

import json

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2, predict_pb2, regression_pb2

from serving.server import json_answers, json_tensors, tensors
from serving.server.errors import StatusError

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NUMBERS = [
    tf.float32,
    tf.float64,
    *(tf.int8, tf.int16, tf.int32, tf.int64),
    *(tf.uint8, tf.uint32, tf.uint64),
]


def read(body: str | bytes, **dtypes: tf.DType) -> tuple[predict_pb2.PredictRequest, bool]:
    """The request that a body makes for a signature with these inputs; whether it has rows."""
    infos = {
        name: meta_graph_pb2.TensorInfo(dtype=dtype.as_datatype_enum)
        for name, dtype in dtypes.items()
    }
    request = predict_pb2.PredictRequest()
    document = json_tensors.parse(body.encode() if isinstance(body, str) else body)
    json_tensors.read_signature_name(document, request.model_spec)
    return request, json_tensors.read_inputs(document, infos, request)


def arrays(body: str | bytes, **dtypes: tf.DType) -> dict[str, list]:
    """The tensors of a body as nested lists, after a check of their types."""
    request, _ = read(body, **dtypes)
    assert {name: tensor.dtype for name, tensor in request.inputs.items()} == {
        name: dtype.as_datatype_enum for name, dtype in dtypes.items()
    }
    return {name: tensors.decode(request.inputs[name], name).tolist() for name in dtypes}


def refusal(body: str | bytes, **dtypes: tf.DType) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(StatusError) as caught:
        read(body, **dtypes)
    return caught.value.code, caught.value.message


# Requests to predict


def test_rows_of_one_input_are_plain_lists():
    body = '{"instances": [[1,2],[3,4],[5,6]]}'
    assert arrays(body, x=tf.int32) == {"x": [[1, 2], [3, 4], [5, 6]]}
    request, by_row = read(body, x=tf.int32)
    assert by_row
    assert not request.model_spec.signature_name


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_whole_numbers_and_fractions_mix_in_a_list_of_floats(dtype):
    body = '{"instances": [1, 2.0, 3, 4, 5.5, 0.007, 0.0]}'
    expected = np.array([1, 2, 3, 4, 5.5, 0.007, 0], dtype.as_numpy_dtype).tolist()
    assert arrays(body, x=dtype) == {"x": expected}


def test_a_signature_may_be_named():
    request, _ = read('{"signature_name": "images", "instances": [[1,2]]}', x=tf.int32)
    assert request.model_spec.signature_name == "images"


def test_other_keys_are_ignored():
    assert arrays('{"id": 7, "instances": [1]}', x=tf.int32) == {"x": [1]}


def test_a_byte_order_mark_is_skipped():
    assert arrays('\ufeff{"instances": [1]}', x=tf.int32) == {"x": [1]}


@pytest.mark.parametrize(
    ("instances", "expected"),
    [
        ('{"b64": "aGVsbG8="}, {"b64": "d29ybGQ="}', [b"hello", b"world"]),
        ('[{"b64": "aGVsbG8="}], [{"b64": "d29ybGQ="}]', [[b"hello"], [b"world"]]),
        ('{"x": [[{"b64": "aGVsbG8="}], [{"b64": "d29ybGQ="}]]}', [[[b"hello"], [b"world"]]]),
        ('{"b64": "aGVsbG8"}, {"b64": "\\nd29y bGQ="}', [b"hello", b"world"]),
        ('{"b64": "/w=="}, "é"', [b"\xff", "é".encode()]),
        ('{"x": {"b64": ""}}', [b""]),
    ],
)
def test_binary_strings_are_base64(instances, expected):
    assert arrays(f'{{"instances": [{instances}]}}', x=tf.string) == {"x": expected}


def test_rows_of_several_inputs_are_objects():
    body = """{"instances": [
        {"ints": [[1,2],[3,4]], "texts": ["foo", "bar"], "floats": [1.0, -Infinity]},
        {"floats": [2.0, Infinity], "ints": [[7,8],[9,0]], "texts": ["baz", {"b64": "YmF0"}]}
    ]}"""
    assert arrays(body, ints=tf.int32, texts=tf.string, floats=tf.float32) == {
        "ints": [[[1, 2], [3, 4]], [[7, 8], [9, 0]]],
        "texts": [[b"foo", b"bar"], [b"baz", b"bat"]],
        "floats": [[1, -np.inf], [2, np.inf]],
    }


def test_nan_is_a_number():
    (value,) = arrays('{"instances": [NaN]}', x=tf.float64)["x"]
    assert np.isnan(value)


@pytest.mark.parametrize("inputs", ['{"x": [[[1,2],[3,4]]]}', "[[[1,2],[3,4]]]"])
def test_columns_of_one_input_may_be_named(inputs):
    body = f'{{"inputs": {inputs}}}'
    assert arrays(body, x=tf.int32) == {"x": [[[1, 2], [3, 4]]]}
    assert not read(body, x=tf.int32)[1]


def test_columns_of_several_inputs_have_shapes_of_their_own():
    body = """{"inputs": {"ints": [[1,2],[3,4],[5,6]], "texts": ["foo", "bar"],
                          "binary": {"b64": "aGVsbG8="}, "scalar": 7.5, "extra": null}}"""
    assert arrays(body, ints=tf.int64, texts=tf.string, binary=tf.string, scalar=tf.float32) == {
        "ints": [[1, 2], [3, 4], [5, 6]],
        "texts": [b"foo", b"bar"],
        "binary": b"hello",
        "scalar": 7.5,
    }


@pytest.mark.parametrize(
    ("inputs", "shape"), [("[]", [0]), ("[[], []]", [2, 0]), ("[[[]], [[]]]", [2, 1, 0])]
)
def test_lists_may_be_empty(inputs, shape):
    request, _ = read(f'{{"inputs": {inputs}}}', x=tf.float32)
    assert list(tensors.decode(request.inputs["x"], "x").shape) == shape


@pytest.mark.parametrize("dtype", NUMBERS, ids=lambda dtype: dtype.name)
def test_every_type_of_numbers_goes_there_and_back(dtype):
    limits = (0, 255) if dtype.is_unsigned else (-128, 127)
    given = np.random.default_rng(1).uniform(*limits, [4, 3, 2]).astype(dtype.as_numpy_dtype)
    for key, answer in (("instances", "predictions"), ("inputs", "outputs")):
        request, by_row = read(json.dumps({key: given.tolist()}), x=dtype)
        found = tensors.decode(request.inputs["x"], "x")
        assert found.dtype == given.dtype
        np.testing.assert_allclose(found, given, rtol=3e-16)  # the parser is off by a bit or two
        written = json_answers.write_outputs({"y": tensors.encode(given)}, by_row=by_row)
        np.testing.assert_array_equal(np.array(json.loads(written)[answer], given.dtype), given)


@pytest.mark.parametrize(
    ("dtype", "least", "most"),
    [
        (tf.int32, -(2**31), 2**31 - 1),
        (tf.uint32, 0, 2**32 - 1),
        (tf.int64, -(2**63), 2**63 - 1),
        (tf.uint64, 0, 2**64 - 1),
        (tf.float32, -(2**24) + 1, 2**24 - 1),
        (tf.float64, -(2**53) + 1, 2**53 - 1),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_largest_whole_numbers_are_taken_and_no_larger_ones(dtype, least, most):
    assert arrays(f'{{"inputs": [{least}, {most}]}}', x=dtype) == {"x": [least, most]}
    for beyond in (least - 1, most + 1):
        code, message = refusal(f'{{"inputs": [{beyond}]}}', x=dtype)
        assert code == INVALID
        assert f"{dtype.name}" in message or "without loss of precision." in message


def test_narrow_whole_numbers_keep_their_lowest_bits():
    assert arrays('{"inputs": [300, -129]}', x=tf.int8) == {"x": [44, 127]}


def test_booleans_are_no_numbers():
    assert arrays('{"instances": [true, false]}', x=tf.bool) == {"x": [True, False]}


TWO_LISTS = """{
    "instances": [
        1
    ],
    "inputs": [
        1
    ]
}"""
IN_ROW = "Failed to process element: {} of 'instances' list. Error: INVALID_ARGUMENT: {}"


@pytest.mark.parametrize(
    ("body", "dtype", "message"),
    [
        ("", tf.int32, "JSON Parse error: The document is empty"),
        ("  ", tf.int32, "JSON Parse error: The document is empty. at offset: 2"),
        ("instances = [1, 2]", tf.int32, "JSON Parse error: Invalid value. at offset: 0"),
        ('{"inputs": [1, 2}', tf.int32, "JSON Parse error: Missing a comma or ']' after an "
         "array element. at offset: 16"),
        ('{"inputs": 1e999}', tf.float32, "JSON Parse error: Number too big to be stored in "
         "double. at offset: 11"),
        (b'{"inputs": "\xff"}', tf.string, "JSON Parse error: Invalid encoding in string. "
         "at offset: 12"),
        ("[1]", tf.int32, "JSON Value: [\n    1\n] Is not object"),
        ("1.0", tf.int32, "JSON Value: 1.0 Is not object"),
        ("{}", tf.int32, "Missing 'inputs' or 'instances' key"),
        ('{"instances": [1], "inputs": [1]}', tf.int32, f"JSON Value: {TWO_LISTS} Not formatted "
         "correctly expecting only one of 'inputs' or 'instances' keys to exist "),
        ('{"instances": 1}', tf.int32, 'JSON Value: {\n    "instances": 1\n} Expecting '
         "'instances' to be an list/array"),
        ('{"instances": []}', tf.int32, 'JSON Value: {\n    "instances": []\n} No values in '
         "'instances' array"),
        ('{"signature_name": 5}', tf.int32, 'JSON Value: {\n    "signature_name": 5\n} not '
         "formatted correctly. 'signature_name' key must be a string value."),
        ('{"instances": [[1,2],[3,4,5]]}', tf.int32,
         IN_ROW.format(1, "Expecting tensor size: 2 but got: 3")),
        ('{"instances": [[1,2],[[3,4]]]}', tf.int32,
         IN_ROW.format(1, "Expecting shape [2] but got: [1,2]")),
        ('{"instances": [1, [1]]}', tf.int32, IN_ROW.format(1, "Expecting shape [] but got: [1]")),
        ('{"instances": [[1,2],["a","b"]]}', tf.int32,
         IN_ROW.format(1, 'JSON Value: "a" Type: String is not of expected type: int32')),
        ('{"instances": ["x"]}', tf.float32,
         IN_ROW.format(0, 'JSON Value: "x" Type: String is not of expected type: float')),
        ('{"instances": [1.0, true]}', tf.float32,
         IN_ROW.format(1, "JSON Value: true Type: True is not of expected type: float")),
        ('{"inputs": [1, 2.5]}', tf.int32,
         "JSON Value: 2.5 Type: Number is not of expected type: int32"),
        ('{"inputs": [2147483648]}', tf.uint8,
         "JSON Value: 2147483648 Type: Number is not of expected type: uint8"),
        ('{"inputs": [1]}', tf.bool, "JSON Value: 1 Type: Number is not of expected type: bool"),
        ('{"inputs": [null]}', tf.string,
         "JSON Value: null Type: Null is not of expected type: string"),
        ('{"inputs": [{"b64": "eA=="}]}', tf.float32, 'JSON Value: {\n    "b64": "eA=="\n} Type: '
         "Object is not of expected type: float"),
        ('{"inputs": [1.7976931348623157e308]}', tf.float32, "Cannot convert JSON value: "
         "1.7976931348623157e+308 to float without loss of precision."),
        ('{"inputs": [0.5, 16777217]}', tf.float32, "Cannot convert JSON value: 16777217 to float "
         "without loss of precision."),
        ('{"inputs": [[1, 2], [3]]}', tf.int32,
         "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
        ('{"inputs": [1, [2]]}', tf.int32,
         "Encountered list at unexpected level: 1 expected < 1"),
        ('{"inputs": [[1], 2]}', tf.int32, "JSON Value: 2 found at incorrect level: 2 in the JSON "
         "DOM. Expected at level: 2"),
        ('{"inputs": {"y": 1}}', tf.int32, "Missing named input: x in 'inputs' object."),
        ('{"inputs": [{"b64": "%"}]}', tf.string, "Unable to base64 decode"),
        ('{"inputs": [{"b64": "aGVsbG8=="}]}', tf.string, "Unable to base64 decode"),
        ('{"instances": [["a"], [{"b64": "%"}]]}', tf.string,
         IN_ROW.format(1, "Unable to base64 decode")),
        ('{"inputs": [{"b64": 1}]}', tf.string, 'JSON Value: {\n    "b64": 1\n} not formatted '
         "correctly for base64 data"),
        ('{"instances": [["a"], {"x": ["b"]}]}', tf.string,
         "Expecting value/list but got object at item 1 of input list"),
        ('{"instances": [1]}', tf.half, "Failed to process element: 0 of 'instances' list. Error: "
         "UNIMPLEMENTED: Conversion of JSON Value: 1 to type: half"),
    ],
)  # fmt: skip
def test_what_does_not_fit_one_input_is_refused(body, dtype, message):
    assert refusal(body, x=dtype) == (INVALID, message)


ROW = '{"ints": [1, 2], "texts": ["a"]}'


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (f'{{"instances": [{ROW}, {{"ints": [[1, 2]], "texts": ["b"]}}]}}',
         "Failed to process element: 1 key: ints of 'instances' list. Error: INVALID_ARGUMENT: "
         "Expecting shape [2] but got: [1,2]"),
        (f'{{"instances": [{ROW}, {{"ints": [1], "texts": ["b"]}}]}}',
         "Failed to process element: 1 key: ints of 'instances' list. Error: INVALID_ARGUMENT: "
         "Expecting tensor size: 2 but got: 1"),
        (f'{{"instances": [{ROW}, [1, 2]]}}',
         "Expecting object but got list at item 1 of input list"),
        ('{"instances": [{"ints": 1}]}',
         "Failed to process element: 0 of 'instances' list. JSON object: {\n    \"ints\": 1\n} "
         "keys must be equal to: ints,texts"),
        ('{"instances": [{"ints": 1, "texts": "a", "more": 2}]}',
         "Failed to process element: 0 key: more of 'instances' list. Error: INVALID_ARGUMENT: "
         "JSON object: does not have named input: more"),
        ('{"instances": [1, 2]}',
         "instances is a plain list, but expecting list of objects as multiple input tensors "
         "required as per tensorinfo_map"),
        ('{"inputs": [1, 2]}',
         "inputs is a plain value/list, but expecting an object as multiple input tensors "
         "required as per tensorinfo_map"),
        ('{"inputs": {"ints": [1]}}', "Missing named input: texts in 'inputs' object."),
    ],
)  # fmt: skip
def test_what_does_not_fit_several_inputs_is_refused(body, message):
    assert refusal(body, ints=tf.int32, texts=tf.string) == (INVALID, message)


@pytest.mark.parametrize("dtype", [tf.half, tf.bfloat16, tf.uint16, tf.complex64])
def test_some_types_can_not_be_sent(dtype):
    name = "half" if dtype == tf.half else dtype.name
    assert refusal('{"inputs": 1.5}', x=dtype) == (
        grpc.StatusCode.UNIMPLEMENTED,
        f"Conversion of JSON Value: 1.5 to type: {name}",
    )


def test_a_signature_without_inputs_takes_no_json():
    message = "Failed to get input map for signature: DEFAULT"
    assert refusal('{"inputs": 1}') == (INVALID, message)


# Answers to predict


def tensor(value, dtype: tf.DType | None = None):
    array = tf.constant(value, dtype).numpy()
    return tensors.encode(array)


def written(by_row: bool, **outputs) -> str:
    return json_answers.write_outputs(outputs, by_row=by_row)


def test_one_output_by_row_is_a_line_a_row():
    assert written(True, y=tensor([[[1, 2], [3, 4]], [[7, 8], [9, 0]]])) == (
        '{\n    "predictions": [[[1, 2], [3, 4]], [[7, 8], [9, 0]]\n    ]\n}'
    )
    assert written(True, y=tensor([1, 2, 3])) == '{\n    "predictions": [1, 2, 3\n    ]\n}'


def test_one_output_as_a_whole_is_a_line_an_element():
    assert written(False, y=tensor([[1, 2]])) == (
        '{\n    "outputs": [\n        [\n            1,\n            2\n        ]\n    ]\n}'
    )
    assert written(False, y=tensor(7)) == '{\n    "outputs": 7\n}'


OUTPUTS = {
    "doubles": tensor([8.0, 9.0], tf.float64),
    "floats": tensor([[1.0], [2.0]]),
    "flags": tensor([True, False]),
    "texts": tensor([["foo", "bar"], ["baz", 'q"é\n']]),
    "some_bytes": tensor([[b"hello", b"world"], [b"tf", b"\xff"]]),
}


def test_several_outputs_by_row_are_objects():
    text = written(True, **OUTPUTS)
    assert json.loads(text) == {
        "predictions": [
            {
                "doubles": 8.0,
                "floats": [1.0],
                "flags": True,
                "texts": ["foo", "bar"],
                "some_bytes": [{"b64": "aGVsbG8="}, {"b64": "d29ybGQ="}],
            },
            {
                "doubles": 9.0,
                "floats": [2.0],
                "flags": False,
                "texts": ["baz", 'q"é\n'],
                "some_bytes": [{"b64": "dGY="}, {"b64": "/w=="}],
            },
        ]
    }
    assert text.startswith(
        '{\n    "predictions": [\n        {\n            "doubles": 8.0,\n            "flags": '
    )
    assert '"texts": ["baz", "q\\"é\\n"]\n        }\n    ]\n}' in text


def test_several_outputs_as_a_whole_are_one_object():
    assert json.loads(written(False, **OUTPUTS)) == {
        "outputs": {
            "doubles": [8.0, 9.0],
            "floats": [[1.0], [2.0]],
            "flags": [True, False],
            "texts": [["foo", "bar"], ["baz", 'q"é\n']],
            "some_bytes": [
                [{"b64": "aGVsbG8="}, {"b64": "d29ybGQ="}],
                [{"b64": "dGY="}, {"b64": "/w=="}],
            ],
        }
    }


def test_binary_strings_are_objects_over_several_lines():
    assert written(True, y_bytes=tensor([b"hello"])) == (
        '{\n    "predictions": [{\n            "b64": "aGVsbG8="\n        }\n    ]\n}'
    )


def test_strings_keep_bytes_that_are_no_text():
    text = written(True, y=tensor([b"\xff"]))
    assert b'["\xff"\n' in text.encode(errors="surrogateescape")


@pytest.mark.parametrize(
    ("dtype", "values", "texts"),
    [
        (tf.float32, [9e6, 999999, 0.5, 0.0003, 3e-05, 555557.5],
         ["9e+06", "999999.0", "0.5", "0.0003", "3e-05", "555557.5"]),
        (tf.float32, [0.1, 1 / 3, 16777215, -0.0, 1e-45],
         ["0.1", "0.333333343", "16777215.0", "-0.0", "1.4013e-45"]),
        (tf.float64, [0.1, 1 / 3, 1e300, 123456789],
         ["0.1", "0.33333333333333331", "1e+300", "123456789.0"]),
        (tf.float32, [np.nan, np.inf, 3, -np.inf], ["NaN", "Infinity", "3.0", "-Infinity"]),
        (tf.float64, [-np.inf, np.nan], ["-Infinity", "NaN"]),
    ],
)  # fmt: skip
def test_numbers_are_as_short_as_they_can_be(dtype, values, texts):
    assert written(True, y=tensor(values, dtype)) == (
        f'{{\n    "predictions": [{", ".join(texts)}\n    ]\n}}'
    )


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        ({"y": [0, 2]}, '{\n    "predictions": []\n}'),
        ({"y": [0, 1, 2], "z": [0]}, '{\n    "predictions": []\n}'),
        ({"y": [2, 0]}, '{\n    "predictions": [[], []\n    ]\n}'),
        ({"y": [2, 0, 3]}, '{\n    "predictions": [[], []\n    ]\n}'),
    ],
)
def test_no_rows_are_an_empty_list(shapes, text):
    outputs = {name: tensor(np.zeros(shape, np.int32)) for name, shape in shapes.items()}
    assert written(True, **outputs) == text


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, "Cannot convert empty tensor map to JSON"),
        ({"y": tensor([1 + 2j], tf.complex64)},
         "Failed to write JSON value for tensor type: complex64"),
        ({"y": tensor([1], tf.half)}, "Failed to write JSON value for tensor type: half"),
        ({"y": tensor([1], tf.bfloat16)}, "Failed to write JSON value for tensor type: bfloat16"),
        ({"y": tensor(1)}, "Tensor name: y has no shape information "),
        ({"y": tensor([1, 2]), "z": tensor([1])},
         "Tensor name: z has inconsistent batch size: 1 expecting: 2"),
        ({"y": tensor(np.zeros([0, 2])), "z": tensor([["a", "b"]])},
         "Tensor name: z has inconsistent batch size: 1 expecting: 0"),
    ],
)  # fmt: skip
def test_some_answers_can_not_be_written(outputs, message):
    with pytest.raises(StatusError) as caught:
        written(True, **outputs)
    assert (caught.value.code, caught.value.message) == (INVALID, message)


# Examples, for both methods that take them

BOTH_METHODS = pytest.mark.parametrize(
    "kind", [classification_pb2.ClassificationRequest, regression_pb2.RegressionRequest]
)


def read_examples(body: str, kind: type):
    request = kind()
    document = json_tensors.parse(body.encode())
    json_tensors.read_signature_name(document, request.model_spec)
    json_tensors.read_examples(document, request)
    return request


@BOTH_METHODS
def test_examples_have_features_of_three_kinds(kind):
    request = read_examples(
        """{"examples": [
            {"names": ["foo", {"b64": "/w=="}], "ratings": [8.0, Infinity], "age": 20},
            {"names": "baz", "ratings": 6.5, "flags": [1, true, false], "none": []}
        ]}""",
        kind,
    )
    expected = text_format.Parse(
        r"""model_spec { } input { example_list {
            examples { features {
                feature { key: "names" value { bytes_list { value: "foo" value: "\377" } } }
                feature { key: "ratings" value { float_list { value: 8 value: inf } } }
                feature { key: "age" value { int64_list { value: 20 } } } } }
            examples { features {
                feature { key: "names" value { bytes_list { value: "baz" } } }
                feature { key: "ratings" value { float_list { value: 6.5 } } }
                feature { key: "flags" value { int64_list { value: [1, 1, 0] } } }
                feature { key: "none" value { } } } }
        } }""",
        kind(),
    )
    assert request == expected


@BOTH_METHODS
def test_examples_may_have_a_context_and_a_signature(kind):
    request = read_examples(
        """{"signature_name": "custom", "context": {"query": "pizza", "places": ["sfo"]},
            "examples": [{"x": -Infinity}]}""",
        kind,
    )
    expected = text_format.Parse(
        """model_spec { signature_name: "custom" }
        input { example_list_with_context {
            context { features {
                feature { key: "query" value { bytes_list { value: "pizza" } } }
                feature { key: "places" value { bytes_list { value: "sfo" } } } } }
            examples { features {
                feature { key: "x" value { float_list { value: -inf } } } } }
        } }""",
        kind(),
    )
    assert request == expected


@BOTH_METHODS
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"signature_name": ["a"]}', 'JSON Value: {\n    "signature_name": [\n        "a"\n    ]'
         "\n} not formatted correctly. 'signature_name' key must be a string value."),
        ('{"context": [1]}', "Example must be JSON object but got JSON Array"),
        ("{}", "JSON Value: {} When method is classify, key 'examples' is expected and was not "
         "found"),
        ('{"examples": 1}', 'JSON Value: {\n    "examples": 1\n} Expecting \'examples\' value to '
         "be an list/array"),
        ('{"examples": []}', 'JSON Value: {\n    "examples": []\n} \'examples\' value is an empty '
         "array"),
        ('{"examples": [[{"x": 1}]]}', "Example must be JSON object but got JSON Array"),
        ('{"examples": [{"x": [10, null]}]}',
         "Feature: x has element with unexpected JSON type: Null"),
        ('{"examples": [{"x": [10, {"test": 10}]}]}',
         "Feature: x has element with unexpected JSON type: Object"),
        ('{"examples": [{"x": [[10], 20]}]}',
         "Feature: x has element with unexpected JSON type: Array"),
        ('{"examples": [{"x": [10, 10.0]}]}',
         "Unexpected element type in feature: x expecting type: int64"),
        ('{"examples": [{"x": ["a", true]}]}',
         "Unexpected element type in feature: x expecting type: bytes"),
        ('{"examples": [{"x": [1.5, 1]}]}',
         "Unexpected element type in feature: x expecting type: float"),
        ('{"examples": [{"x": [20, 18446744073709551603]}]}',
         "Feature: x has uint64 element. Only int64 is supported."),
        ('{"examples": [{"x": 1.7976931348623157e308}]}', "Cannot convert JSON value: "
         "1.7976931348623157e+308 to float without loss of precision."),
        ('{"examples": [{"x": {"b64": "%"}}]}', "Unable to base64 decode"),
    ],
)  # fmt: skip
def test_what_is_no_example_is_refused(body, message, kind):
    with pytest.raises(StatusError) as caught:
        read_examples(body, kind)
    assert (caught.value.code, caught.value.message) == (INVALID, message)


# Answers about examples


def test_classifications_are_labels_and_scores():
    result = text_format.Parse(
        """classifications { classes { label: "car" score: 0.2 }
                             classes { label: "bus" score: 0.7 } }
           classifications { classes { label: "é" score: 1 } classes { score: nan } }""",
        classification_pb2.ClassificationResult(),
    )
    assert json_answers.write_classifications(result) == (
        '{\n    "results": [[["car", 0.2], ["bus", 0.7]], [["é", 1.0], ["", NaN]]\n    ]\n}'
    )


def test_regressions_are_numbers():
    result = regression_pb2.RegressionResult()
    for value in (0.2, np.inf, 1.0, -np.inf, np.nan):
        result.regressions.add(value=value)
    assert json_answers.write_regressions(result) == (
        '{\n    "results": [0.2, Infinity, 1.0, -Infinity, NaN]\n}'
    )


def test_answers_about_no_examples_can_not_be_written():
    with pytest.raises(StatusError, match="Cannot convert empty ClassificationResults to JSON"):
        json_answers.write_classifications(classification_pb2.ClassificationResult())
    with pytest.raises(StatusError, match="Cannot convert empty RegressionResults to JSON"):
        json_answers.write_regressions(regression_pb2.RegressionResult())


@pytest.mark.parametrize(
    ("message", "text"),
    [("Bad key: 'key'", "Bad key: 'key'"), ('Bad "key"\n\\', 'Bad \\"key\\"\\n\\\\')],
)
def test_errors_are_objects(message, text):
    assert json_answers.write_error(message) == f'{{\n    "error": "{text}"\n}}'
