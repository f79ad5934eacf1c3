"""Classification of the rows of a table: columns in, the most probable labels out.

    python -m pipelines.tabular_classification
    python -m pipelines.tabular_classification --dataset wine --architecture softmax_regression
    python -m pipelines.tabular_classification --dataset csv --data_dir FILE --source.target COLUMN

The first reads the breast tumours that come with scikit-learn, as ``iris`` and ``wine`` do; any CSV
file with a header is read as in ``pipelines.house_prices``. What scikit-learn's logistic regression
makes of the same split is printed beside the score of the run.

Measured with seed 0 on 2026-11-25: breast cancer 97.3 % of 113 test rows right (logistic regression
95.6 %), iris 96.7 % of 30 (96.7), wine 97.2 % of 36 (97.2).

The knobs of the networks are ``--model.activation``, ``--model.dropout`` and
``--model.batch_normalization`` (``models/fully_connected.py``); those of any fit, among them
``--initializer``, ``--l1`` and ``--l2``, are the recipe's (``pipelines/engine/application.py``).

Served: a named input [batch] for each column, a float or a string, NaN or empty where the value is
missing → ``labels`` and ``probabilities`` [batch, k], k = min(5, classes).
"""

from __future__ import annotations

from models.fully_connected import (
    deep_network,
    logistic_regression,
    shallow_network,
    softmax_regression,
)
from pipelines.arrange.plain import arrange
from pipelines.engine.application import Application, Recipe, Variant
from pipelines.preprocess.table import LabelTable
from pipelines.sources.csv_files import LabelledCsvFiles
from pipelines.sources.measurements import BreastCancer, Iris, Wine
from pipelines.tasks import baselines
from pipelines.tasks.classification import Classification

application = Application(
    name="tabular_classification",
    summary="the columns of a table → labels with probabilities",
    sources={
        "breast_cancer": Variant(BreastCancer),
        "iris": Variant(Iris),
        "wine": Variant(Wine),
        "csv": Variant(LabelledCsvFiles),
    },
    preprocessor=LabelTable,
    arrange=arrange,
    task=Classification,
    recipe=Recipe(epochs=100, batch_size=32, learning_rate=1e-2, schedule="cosine"),
    architectures={
        "shallow_network": Variant(shallow_network),
        "deep_network": Variant(deep_network),
        "logistic_regression": Variant(logistic_regression),
        "softmax_regression": Variant(softmax_regression),
    },
    baselines={"LogisticRegression": baselines.logistic_regression},
)

if __name__ == "__main__":
    from pipelines.engine.cli import main

    main(application)
