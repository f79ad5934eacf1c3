"""Small classical tables of measurements that come with scikit-learn, with a class for each row."""

from __future__ import annotations

import functools

import numpy as np

from pipelines.sources.csv_files import as_name
from pipelines.sources.table import Table, cut_rows, numbered


class Measurements(Table):
    """One of scikit-learn's tables; 60 % training, 20 % validation and 20 % test of each class."""

    truth = "label"
    place = "built in"
    licence = "CC BY 4.0 (UCI Machine Learning Repository)"
    loader: str

    @functools.cached_property
    def columns(self) -> dict[str, np.ndarray]:
        import sklearn.datasets

        table = getattr(sklearn.datasets, self.loader)()
        labels = np.array([str(name) for name in table.target_names], "S")[table.target]
        ids = numbered(self.loader.removeprefix("load_"), len(labels))
        names = [as_name(name) for name in table.feature_names]
        return {
            "id": ids,
            "split": cut_rows(ids, held_out=0.2, strata=labels),
            **dict(zip(names, table.data.T.astype("float32"), strict=True)),
            "label": labels,
        }


class BreastCancer(Measurements):
    """569 tumours, ten measures of their cell nuclei: benign or malignant."""

    loader = "load_breast_cancer"
    citation = (
        "W. N. Street, W. H. Wolberg, O. L. Mangasarian (1993), Nuclear feature extraction for "
        "breast tumor diagnosis, https://doi.org/10.24432/C5DW2B"
    )


class Iris(Measurements):
    """150 flowers of three species, by the length and width of sepals and petals."""

    loader = "load_iris"
    citation = (
        "R. A. Fisher (1936), The use of multiple measurements in taxonomic problems, "
        "https://doi.org/10.24432/C56C76"
    )


class Wine(Measurements):
    """178 wines of three cultivars, by thirteen chemical measures."""

    loader = "load_wine"
    citation = (
        "S. Aeberhard, M. Forina (1992), Wine, UCI Machine Learning Repository, "
        "https://doi.org/10.24432/C5PC7J"
    )
