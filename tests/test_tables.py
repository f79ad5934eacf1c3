"""Tables: what CSV files are taken for, what of a row a network reads, how answers are scored."""

from __future__ import annotations

import gzip
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from models.fully_connected import logistic_regression, perceptron
from pipelines import predict
from pipelines.engine.application import UserError
from pipelines.preprocess.table import LabelTable, NumberTable
from pipelines.sources.csv_files import CsvFiles, LabelledCsvFiles
from pipelines.sources.table import BLOCK
from pipelines.sources.town import Town
from pipelines.tasks.regression import Regression
from tests.conftest import train

# CSV files ---------------------------------------------------------------------------------------

HEADER = "Size (m²),1st zip,built,Price"


def write(folder: pathlib.Path, *lines: str, name: str = "houses.csv") -> str:
    (folder / name).write_text("\n".join([HEADER, *lines]), encoding="utf-8")
    return str(folder)


def houses(count: int = 40) -> list[str]:
    return [f"{50 + n},0{2100 + n % 4},19{50 + n}-07-01,{100 + 2 * n}" for n in range(count)]


def test_columns_are_numbers_or_text_by_their_values(tmp_path):
    source = CsvFiles(data_dir=write(tmp_path, *houses()), target="Price")
    kinds = {name: spec.dtype for name, spec in source.fields.items()}
    assert kinds == {
        "id": tf.string,
        "target": tf.float32,
        "Size_m²": tf.float32,
        "column_1st_zip": tf.string,  # a number has no needless zero
        "built": tf.string,
    }
    assert source.columns["id"][0] == b"houses.csv:2"
    assert source.columns["target"].tolist() == [100 + 2 * n for n in range(40)]


def test_kinds_are_overridden_by_name(tmp_path):
    folder = write(tmp_path, *houses())
    text = CsvFiles(data_dir=folder, target="Price", text="Size (m²)", ignore="built")
    assert text.fields["Size_m²"].dtype == tf.string
    assert "built" not in text.fields
    numbers = CsvFiles(data_dir=folder, target="Price", numbers="column_1st_zip")
    assert numbers.fields["column_1st_zip"].dtype == tf.float32


def test_missing_values_are_nan_or_empty_text(tmp_path):
    lines = [*houses(), "NA,?,,300", "null,02100,2001-01-01,301"]
    source = CsvFiles(data_dir=write(tmp_path, *lines), target="Price")
    rows = {id_.decode(): row for row, id_ in enumerate(source.columns["id"])}
    row, other = rows["houses.csv:42"], rows["houses.csv:43"]
    assert np.isnan(source.columns["Size_m²"][[row, other]]).all()
    assert source.columns["column_1st_zip"][row] == b""
    assert source.columns["built"][row] == b""
    assert source.skipped == ()


BROKEN = {
    "50,02100,2000-01-01": "houses.csv, line 42: 3 cells instead of 4",
    "50,02100,2000-01-01,1,2": "houses.csv, line 42: 5 cells instead of 4",
    "50,02100,2000-01-01,dear": "houses.csv:42: Price is dear",
    "50,02100,2000-01-01,": "houses.csv:42: Price is nothing",
}


@pytest.mark.parametrize("line", BROKEN)
def test_broken_rows_are_named_and_left_out_or_refused(line, tmp_path):
    folder = write(tmp_path, *houses(), line, "51,02101,2000-01-01,200")
    source = CsvFiles(data_dir=folder, target="Price")
    assert len(source.columns["id"]) == 41
    (said,) = source.skipped
    assert said.endswith(BROKEN[line])
    with pytest.raises(UserError, match="1 damaged"):
        CsvFiles(data_dir=folder, target="Price", strict=True).load("train")


def test_a_row_that_is_not_utf8_is_named(tmp_path):
    write(tmp_path, *houses())
    with (tmp_path / "houses.csv").open("ab") as file:
        file.write(b"\n50,caf\xe9,2000-01-01,9\n51,02100,2000-01-01,10\n")
    source = CsvFiles(data_dir=str(tmp_path), target="Price")
    assert len(source.columns["id"]) == 41
    assert source.skipped == (f"{tmp_path / 'houses.csv'}, line 42: cannot be read as CSV",)


def test_a_slip_makes_a_column_text_unless_it_is_said_to_be_numbers(tmp_path, caplog):
    folder = write(tmp_path, *houses(), "large,02100,2000-01-01,200", *houses(30))
    column = CsvFiles(data_dir=folder, target="Price").fields["Size_m²"]
    in_training = "large" in caplog.text
    assert column.dtype == (tf.string if in_training else tf.float32)
    source = CsvFiles(data_dir=folder, target="Price", numbers="Size (m²)")
    assert source.fields["Size_m²"].dtype == tf.float32
    assert source.skipped == ("houses.csv:42: Size (m²) is large",)


def test_quoted_cells_hold_separators_and_line_ends(tmp_path):
    lines = [*houses(), '60,"a, b\nc",2000-01-01,200', "61,02100,2000-01-01"]
    source = CsvFiles(data_dir=write(tmp_path, *lines), target="Price")
    assert b"a, b\nc" in source.columns["column_1st_zip"]
    assert source.skipped[0].endswith("line 44: 3 cells instead of 4")


def test_tabs_and_gzip(tmp_path):
    text = "\n".join([HEADER, *houses()]).replace(",", "\t")
    (tmp_path / "houses.tsv.gz").write_bytes(gzip.compress(text.encode()))
    source = CsvFiles(data_dir=str(tmp_path), target="Price")
    assert len(source.columns["id"]) == 40


def test_splits_are_those_of_the_files_or_part_no_equal_rows(tmp_path):
    write(tmp_path, *houses(), name="train.csv")
    write(tmp_path, *houses(7), name="test.csv")
    source = CsvFiles(data_dir=str(tmp_path), target="Price")
    by_id = dict(zip(source.columns["id"], source.columns["split"], strict=True))
    assert sum(split == b"test" for split in by_id.values()) == 7
    assert all((split == b"test") == id_.startswith(b"test") for id_, split in by_id.items())
    twice = tmp_path / "twice"
    twice.mkdir()
    source = CsvFiles(data_dir=write(twice, *houses(), *houses()), target="Price")
    splits = source.columns["split"]
    assert splits[:40].tolist() == splits[40:].tolist()
    assert set(splits) == {b"train", b"validation", b"test"}


def test_every_split_is_read_in_blocks_whole_and_in_the_order_of_the_file(tmp_path):
    lines = houses(3 * BLOCK)
    source = CsvFiles(data_dir=write(tmp_path, *lines), target="Price")
    seen = []
    for split in source.splits:
        blocks = list(source.load(split).as_numpy_iterator())
        assert all(len(block["id"]) == BLOCK for block in blocks[:-1])
        numbers = [int(id_.split(b":")[1]) - 2 for block in blocks for id_ in block["id"]]
        assert numbers == sorted(numbers)
        for block in blocks:
            for id_, size, code in zip(
                block["id"], block["Size_m²"], block["column_1st_zip"], strict=True
            ):
                cells = lines[int(id_.split(b":")[1]) - 2].split(",")
                assert (float(cells[0]), cells[1].encode()) == (size, code)
        seen += numbers
    assert sorted(seen) == list(range(3 * BLOCK))


def test_rows_are_cut_by_the_hash_of_their_cells(tmp_path):
    """Written down once: a change here would change every split ever made."""
    source = CsvFiles(data_dir=write(tmp_path, *houses(20)), target="Price")
    assert (
        b"".join(split[:2] for split in source.columns["split"])
        == b"trtrtrtrtrvatrtetrtrtrtrtrtrtrvatrtrtrte"
    )


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        (houses(), {}, "which column is to be predicted.*Size \\(m²\\), 1st zip, built, Price"),
        (houses(), {"target": "Prize"}, "unknown column 'Prize'; there is: Price"),
        (houses(), {"target": "Price", "ignore": "x"}, "unknown column 'x'"),
        (houses(), {"target": "built"}, "--source.target built holds no number"),
        ([], {"target": "Price"}, "no file has a usable row"),
        (houses(), {"target": "Price", "held_out": 0.5}, "held_out must lie between 0 and 0.5"),
        (houses(), {"target": "Price", "separator": "::"}, "separator must be one character"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(lines, options, message, tmp_path):
    folder = write(tmp_path, *lines)
    with pytest.raises(UserError, match=message):
        CsvFiles(data_dir=folder, **options).load("train")


def test_a_header_is_needed(tmp_path):
    (tmp_path / "houses.csv").write_text("\n".join(houses()))
    with pytest.raises(UserError, match="the first line must name the columns"):
        CsvFiles(data_dir=str(tmp_path), target="Price").load("train")


def test_a_name_that_two_columns_would_have_is_refused(tmp_path):
    (tmp_path / "houses.csv").write_text("a b,a-b,Price\n1,2,3\n")
    with pytest.raises(UserError, match="'a-b' would be called a_b, which is taken"):
        CsvFiles(data_dir=str(tmp_path), target="Price").load("train")


def test_a_name_that_the_fields_need_is_refused(tmp_path):
    (tmp_path / "houses.csv").write_text("group,Price\n1,2\n")
    with pytest.raises(UserError, match="'group' would be called group, which is taken"):
        CsvFiles(data_dir=str(tmp_path), target="Price").load("train")


def test_labels_are_text_even_if_they_are_numbers(tmp_path):
    source = LabelledCsvFiles(data_dir=write(tmp_path, *houses()), target="1st zip")
    assert source.fields["label"].dtype == tf.string
    assert set(source.columns["label"]) == {b"02100", b"02101", b"02102", b"02103"}


# What a network reads ----------------------------------------------------------------------------

ROWS = {
    "id": [b"a", b"b", b"c", b"d"],
    "size": np.array([1, 2, 3, np.nan], np.float32),
    "place": [b"north", b"south", b"north", b"south"],
    "rare": [b"x", b"y", b"y", b""],
    "sold": [b"2000-03-01", b"2001-03-01", b"", b"2000-09-01"],
    "target": np.array([1, 10, 100, 1000], np.float32),
}


def fitted(rows=None, kind=NumberTable, **options):
    preprocessor = kind(**{"minimum_count": 2} | options)
    preprocessor.fit(tf.data.Dataset.from_tensor_slices(rows or ROWS).batch(3))
    return preprocessor


def read(preprocessor, **columns) -> np.ndarray:
    batch = {name: tf.constant(values) for name, values in columns.items()}
    return preprocessor.model_inputs(preprocessor.features(batch))["columns"].numpy()


def test_columns_are_scaled_encoded_and_marked_where_missing():
    preprocessor = fitted()
    rows = read(preprocessor, **{name: ROWS[name] for name in preprocessor.signature})
    assert rows.shape == (4, preprocessor.model_arguments()["num_features"])
    deviation = np.std([1, 2, 3])
    np.testing.assert_allclose(rows[:, 0], [-1 / deviation, 0, 1 / deviation, 0], atol=1e-6)
    marks, places = rows[:, 4:8], rows[:, 8:]
    np.testing.assert_array_equal(marks[:, 0], [0, 0, 0, 1])  # of the size
    np.testing.assert_array_equal(marks[:, 1:], np.array([[0, 0, 1, 0]] * 3).T)  # of the date
    np.testing.assert_array_equal(places, [[1, 0], [0, 1], [1, 0], [0, 1]])
    assert preprocessor.learned["ignored"] == ["rare"]  # one frequent value tells nothing


def test_signature_is_the_columns_that_are_read():
    signature = fitted().signature
    assert {name: spec.dtype for name, spec in signature.items()} == {
        "size": tf.float32,
        "sold": tf.string,
        "place": tf.string,
    }
    assert all(spec.shape == [None] for spec in signature.values())


def test_unseen_and_missing_categories():
    preprocessor = fitted(ROWS | {"place": [b"north", b"", b"north", b""]})
    rows = read(
        preprocessor,
        size=[2.0, 2.0, 2.0],
        place=[b"west", b"", b" north "],
        sold=[b"2000-03-01"] * 3,
    )
    np.testing.assert_array_equal(rows[:, -2:], [[0, 0], [1, 0], [0, 1]])


def test_dates_are_years_and_the_place_in_the_year():
    preprocessor = fitted()
    days = [b"2000-03-01", b"2001-03-01", b"20000301T120000", b"2000-13-01", b"2000-09-01 08:00"]
    numbers = preprocessor.features(
        {"size": tf.zeros(5), "place": tf.fill([5], ""), "sold": tf.constant(days)}
    )["numbers"].numpy()[:, 1:]
    assert numbers[1, 0] - numbers[0, 0] == pytest.approx(365 / 365.2425, abs=1e-3)
    np.testing.assert_array_equal(numbers[0], numbers[2])
    assert np.isnan(numbers[3]).all()
    np.testing.assert_allclose(numbers[0, 1:], [0, 1], atol=1e-6)  # the year begins in March
    assert numbers[4, 0] - numbers[0, 0] == pytest.approx(184 / 365.2425, abs=1e-3)
    assert fitted(dates="").signature["place"].dtype == tf.string
    assert fitted(dates="").learned["dates"] == []
    with pytest.raises(UserError, match="unknown text column 'size'; there is: "):
        fitted(dates="size")


def test_pieces_rise_one_after_the_other():
    rows = {"a": np.array([0, 1, 2, 4, 8], np.float32), "target": np.ones(5, np.float32)}
    preprocessor = fitted(rows, pieces=4)
    pieces = read(preprocessor, a=[-1.0, 0.5, 3.0, 9.0, np.nan])[:, 1:]
    expected = [[0, 0, 0, 0], [0.5, 0, 0, 0], [1, 1, 0.5, 0], [1, 1, 1, 1], [0, 0, 0, 0]]
    np.testing.assert_allclose(pieces, expected)


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_targets_come_back_in_their_unit(scale):
    preprocessor = fitted(target_scale=scale)
    standardized = preprocessor.target({"target": tf.constant(ROWS["target"])})
    assert float(tf.reduce_mean(standardized)) == pytest.approx(0, abs=1e-6)
    assert float(tf.math.reduce_std(standardized)) == pytest.approx(1, abs=1e-6)
    answered = preprocessor.answer({"value": standardized}, {})["value"]
    np.testing.assert_allclose(answered, ROWS["target"], rtol=1e-5)


def test_log_needs_targets_above_zero():
    with pytest.raises(UserError, match="needs targets above 0, one is 0"):
        fitted(ROWS | {"target": np.zeros(4, np.float32)}, target_scale="log")


def test_what_was_learned_is_saved(tmp_path):
    preprocessor = fitted(pieces=2)
    preprocessor.save(tmp_path)
    again = NumberTable(minimum_count=2, pieces=2)
    again.restore(tmp_path)
    assert (
        again.learned == preprocessor.learned == json.loads((tmp_path / "table.json").read_text())
    )
    columns = {name: ROWS[name] for name in preprocessor.signature}
    np.testing.assert_array_equal(read(again, **columns), read(preprocessor, **columns))


def test_only_the_training_split_is_learned_from():
    """Scales are those of the rows that ``fit`` is shown, and a later batch changes nothing."""
    preprocessor = fitted()
    before = json.dumps(preprocessor.learned)
    read(preprocessor, size=[1e6], place=[b"moon"], sold=[b"3000-01-01"])
    assert json.dumps(preprocessor.learned) == before


def test_tables_of_one_kind_of_column():
    numbers = {"a": np.arange(6, dtype=np.float32), "target": np.ones(6, np.float32)}
    assert read(fitted(numbers), a=[1.0]).shape == (1, 1)
    texts = {"a": [b"x", b"y"] * 3, "label": [b"1", b"2", b"10"] * 2}
    preprocessor = fitted(texts, LabelTable)
    assert read(preprocessor, a=[b"x"]).shape == (1, 2)
    assert preprocessor.labels == ["1", "2", "10"]
    nothing = {"a": [b"x"] * 4, "target": np.ones(4, np.float32)}
    with pytest.raises(UserError, match="no column tells anything"):
        fitted(nothing)


# Scores ------------------------------------------------------------------------------------------


def test_figures_are_scikit_learn_s():
    draw = np.random.default_rng(0)
    truth = draw.lognormal(3, 1, 200)
    given = truth + draw.normal(0, 10, 200)
    scores = Regression().scores({"value": list(given)}, {"target": list(truth)})
    assert scores.values == pytest.approx(
        {
            "rmse": root_mean_squared_error(truth, given),
            "mae": mean_absolute_error(truth, given),
            "r2": r2_score(truth, given),
        }
    )
    np.testing.assert_allclose(scores.errors, np.abs(given - truth))
    for name, figure in scores.summed.items():
        low, high = figure.interval()
        assert low < scores.values[name] < high


def test_a_single_truth_has_no_explained_variance():
    scores = Regression().scores({"value": [1.0, 2.0]}, {"target": [5.0, 5.0]})
    assert np.isnan(scores.values["r2"])


# The knobs of fully connected networks -----------------------------------------------------------


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu", "leaky_relu", "linear"])
def test_activations(name):
    z = np.array([-2.0, 0.0, 3.0])
    expected = {
        "sigmoid": 1 / (1 + np.exp(-z)),
        "tanh": np.tanh(z),
        "relu": np.maximum(z, 0),
        "leaky_relu": np.where(z > 0, z, 0.01 * z),
        "linear": z,
    }[name]
    model = perceptron(1, 1, (1,), activation=name)
    for layer in ("hidden_1", "output"):
        model.get_layer(layer).set_weights([np.ones((1, 1)), np.zeros(1)])
    given = model({"columns": z[:, None].astype("float32")}).numpy()[:, 0]
    np.testing.assert_allclose(given, expected, rtol=1e-6)


@pytest.mark.parametrize(("where", "order"), [("before", -1), ("after", 1)])
def test_batch_normalization_stands_where_it_is_asked_for(where, order):
    names = [layer.name for layer in perceptron(4, 1, (3,), batch_normalization=where).layers]
    assert names.index("normalization_1") - names.index("activation_1") == order


def test_logistic_regression_is_the_sigmoid_of_one_unit():
    model = logistic_regression(2)
    model.get_layer("output").set_weights([np.array([[1.0], [-2.0]]), np.array([0.5])])
    x = np.array([[0.3, 0.1], [-1.0, 2.0]], np.float32)
    z = x @ [1.0, -2.0] + 0.5
    probabilities = tf.nn.softmax(model({"columns": x})).numpy()
    np.testing.assert_allclose(probabilities[:, 1], 1 / (1 + np.exp(-z)), rtol=1e-5)
    with pytest.raises(ValueError, match="parts two classes, received num_classes=3"):
        logistic_regression(2, 3)


# Whole runs --------------------------------------------------------------------------------------


def test_town_is_its_seed():
    one, again, other = Town(houses=300), Town(houses=300), Town(houses=300, seed=1)
    np.testing.assert_array_equal(one.columns["target"], again.columns["target"])
    assert not np.array_equal(one.columns["target"], other.columns["target"])
    assert 0 < np.isnan(one.columns["wealth"]).mean() < 0.1


def test_baselines_stand_beside_the_run(command, tmp_path):
    result = command(train("house_prices"), "--smoke", "--runs_dir", tmp_path, "--run", "town")
    assert result.status == 0, result.err
    folder = tmp_path / "house_prices" / "town"
    beside = json.loads((folder / "scores.json").read_text())["test"]["baselines"]
    report = (folder / "report.md").read_text()
    for name in ("HistGradientBoostingRegressor", "LinearRegression"):
        assert f"test, {name}: rmse {beside[name]['rmse']:.4g}" in result.out
        assert f" {name} |" in report
        assert beside[name]["r2"] > 0.8
    assert "columns: numbers size, bedrooms, wealth; categories zip_code (12)" in result.out


def test_predict_reads_columns_or_a_csv_file(command, smoke_run, tmp_path):
    folder = smoke_run("house_prices")
    (tmp_path / "new.csv").write_text("size,zip_code,note\n90,02134,nice\n,NA,\n")
    result = command(predict.main, folder, "--files", tmp_path / "new.csv")
    rows = [line.split(",") for line in result.out.splitlines()[-3:]]
    assert rows[0] == ["file", "price"]
    assert rows[1][0] == f"{tmp_path / 'new.csv'}:2"
    one = command(predict.main, folder, "--size", "90", "--zip_code", "02134", "--json")
    assert json.loads(one.out.splitlines()[-1])["price"] == pytest.approx(float(rows[1][1]))
    none = command(predict.main, folder, "--json")
    assert json.loads(none.out.splitlines()[-1])["price"] == pytest.approx(float(rows[2][1]))
    (tmp_path / "new.csv").write_text("size\nlarge\n")
    wrong = command(predict.main, folder, "--files", tmp_path / "new.csv")
    assert wrong.status == 2
    assert "new.csv:2: size is 'large', which is no float32" in wrong.err
    (tmp_path / "new.csv").write_text("length\n3\n")
    other = command(predict.main, folder, "--files", tmp_path / "new.csv")
    assert "names none of the columns size, bedrooms, wealth, zip_code" in other.err


CALIFORNIA = ("--dataset", "csv", "--source.target", "median_house_value")


@pytest.mark.data
def test_california_is_within_ten_percent_of_gradient_boosting(command, data_dir, tmp_path):
    folder = data_dir / "california_housing"
    options = (*CALIFORNIA, "--data_dir", folder, "--runs_dir", tmp_path, "--run", "gate")
    assert command(train("house_prices"), *options).status == 0
    scores = json.loads((tmp_path / "house_prices" / "gate" / "scores.json").read_text())["test"]
    trees = scores["baselines"]["HistGradientBoostingRegressor"]
    assert scores["rmse"] <= 51_785
    assert scores["rmse"] <= 1.1 * trees["rmse"]
