"""What scikit-learn makes of the same table: the score that a network has to beat.

Each baseline is fitted on the training split, reads the same columns as the network and answers in
the place of its ``respond``. Linear models read what a linear network would; trees read numbers as
they are and categories as categories.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from pipelines.engine.lazy import tensorflow as tf
from pipelines.preprocess.table import TablePreprocessor

if TYPE_CHECKING:
    from pipelines.engine.data import Examples

# Trees of scikit-learn take categories of no more values than that.
MOST_CATEGORIES = 255


def gradient_boosting(
    preprocessor: TablePreprocessor, training: Examples, features: dict
) -> dict[str, np.ndarray]:
    """scikit-learn's HistGradientBoostingRegressor at its defaults.

    Args:
        preprocessor: fitted.
        training: of the training split.
        features: of the examples to answer.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    sizes = [len(values) for values in preprocessor.learned["categories"].values()]
    first = len(preprocessor.learned["mean"])
    categorical = [first + place for place, n in enumerate(sizes) if n <= MOST_CATEGORIES]
    trees = HistGradientBoostingRegressor(categorical_features=categorical, random_state=0)
    # Its threads wait for each other busily: beside other work two are a hundred times slower.
    with threadpool_limits(1, "openmp"):
        trees.fit(_as_they_are(training.columns["features"]), _target(training))
        value = trees.predict(_as_they_are(features))
    return {"value": value.astype("float32")}


def linear_regression(
    preprocessor: TablePreprocessor, training: Examples, features: dict
) -> dict[str, np.ndarray]:
    """scikit-learn's LinearRegression; arguments as of ``gradient_boosting``."""
    from sklearn.linear_model import LinearRegression

    line = LinearRegression().fit(
        _plain(preprocessor, training.columns["features"]), _target(training)
    )
    return {"value": line.predict(_plain(preprocessor, features)).astype("float32")}


def logistic_regression(
    preprocessor: TablePreprocessor, training: Examples, features: dict
) -> dict[str, np.ndarray]:
    """scikit-learn's LogisticRegression; arguments as of ``gradient_boosting``."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    planes = LogisticRegression(max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        planes.fit(_plain(preprocessor, training.columns["features"]), _target(training))
    found = planes.predict_proba(_plain(preprocessor, features))
    order = np.argsort(-found, axis=1, kind="stable")
    return {
        "indices": planes.classes_[order].astype("int32"),
        "probabilities": np.take_along_axis(found, order, axis=1).astype("float32"),
    }


def _as_they_are(features: dict[str, tf.Tensor]) -> np.ndarray:
    """[rows, columns], NaN for missing numbers and unknown categories."""
    categories = features["categories"].numpy().astype(float)
    categories[categories < 0] = np.nan
    return np.concatenate([features["numbers"].numpy(), categories], axis=1)


def _plain(preprocessor: TablePreprocessor, features: dict) -> np.ndarray:
    """[rows, …] what a linear network would read."""
    # One-hot columns depend on each other: least squares need the digits to notice.
    return preprocessor.plain(features).numpy().astype(float)


def _target(training: Examples) -> np.ndarray:
    return training.columns["target"].numpy()
