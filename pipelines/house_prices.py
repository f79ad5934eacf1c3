"""House prices: the columns of a table in, a price out.

python -m pipelines.house_prices
"""

from __future__ import annotations

from models.fully_connected import linear_regression, mlp
from pipelines.arrange.plain import arrange
from pipelines.engine.application import DEFAULT_SIGNATURE, Application, Endpoint, Recipe, Variant
from pipelines.preprocess.table import NumberTable
from pipelines.sources.csv_files import CsvFiles
from pipelines.sources.town import Town
from pipelines.tasks import baselines
from pipelines.tasks.regression import Regression

application = Application(
    name="house_prices",
    summary="the columns of a table → price",
    sources={
        "town": Variant(Town),
        "csv": Variant(CsvFiles),
    },
    preprocessor=NumberTable,
    arrange=arrange,
    task=Regression,
    recipe=Recipe(epochs=40, batch_size=64, learning_rate=2e-3, schedule="cosine"),
    architectures={
        "linear_regression": Variant(linear_regression),
        "mlp": Variant(mlp, preprocess={"pieces": 16}),
    },
    baselines={
        "HistGradientBoostingRegressor": baselines.gradient_boosting,
        "LinearRegression": baselines.linear_regression,
    },
    endpoints={
        DEFAULT_SIGNATURE: Endpoint(
            answer=lambda preprocessor, response, inputs: {
                "price": preprocessor.answer(response, inputs)["value"]
            }
        )
    },
)

if __name__ == "__main__":
    from pipelines.engine.cli import main

    main(application)
