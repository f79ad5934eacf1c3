"""Image classification: a picture in, its most probable labels out.

    python -m pipelines.image_classification
    python -m pipelines.image_classification --dataset mnist --data_dir DIR
    python -m pipelines.image_classification --architecture resnet20 --dataset cifar --data_dir DIR

The first reads the digits that come with scikit-learn; ``--dataset folders --data_dir DIR`` reads
one's own pictures, a folder for each class. ``--augment`` names what is done to training pictures
(``pipelines/arrange/image.py``); the report shows some.

Measured on 2026-11-22 with seed 0 on two shared cores of a 2.5 GHz Xeon: digits 98.9 % of 359 test
pictures right, 24 s of training; MNIST 0.75 % test error, 6.5 minutes of it beside other work.

Served: ``image`` [batch] (JPEG, PNG, GIF or BMP bytes of any size) → ``labels`` and
``probabilities`` [batch, k], k = min(5, classes).
"""

from __future__ import annotations

from models.lenet import lenet5, lenet5_dense
from models.resnet import resnet20, resnet32, resnet44, resnet56, resnet110
from pipelines.arrange.image import arrange
from pipelines.engine.application import Application, Recipe, Variant
from pipelines.preprocess.image import ImagePreprocessor
from pipelines.sources.catalogue import Catalogue
from pipelines.sources.cifar import Cifar
from pipelines.sources.class_folders import ClassFolders
from pipelines.sources.digits import Digits
from pipelines.sources.mnist import Mnist
from pipelines.tasks.classification import Classification

# LeNet's 28x28 digits lie in the middle of 32x32 pixels (LeCun et al. 1998, section II.B).
LENET = {"size": 32, "margin": 2, "channels": 1}

# He et al. 2015, section 4.2: 64,000 steps of 128 on 45,000 examples are 182 epochs.
RESNET = {
    "recipe": {
        "optimizer": "momentum",
        "learning_rate": 0.1,
        "schedule": "steps",
        "weight_decay": 1e-4,
        "batch_size": 128,
        "epochs": 182,
    },
    "preprocess": {"size": 32, "channels": 3},
    "arrange": {"augment": "crop_flip"},
}

application = Application(
    name="image_classification",
    summary="picture → labels with probabilities",
    sources={
        "digits": Variant(Digits, recipe={"epochs": 30}),
        "mnist": Variant(Mnist, recipe={"epochs": 12}),
        "folders": Variant(ClassFolders, recipe={"epochs": 30}),
        "cifar": Variant(Cifar),
        "catalogue": Variant(Catalogue),
    },
    preprocessor=ImagePreprocessor,
    arrange=arrange,
    task=Classification,
    recipe=Recipe(epochs=8, learning_rate=2e-3, schedule="cosine", monitor="val_accuracy"),
    architectures={
        "lenet5": Variant(lenet5, preprocess=LENET, arrange={"augment": "affine"}),
        "lenet5_dense": Variant(lenet5_dense, preprocess=LENET, arrange={"augment": "affine"}),
        "resnet20": Variant(resnet20, **RESNET),
        "resnet32": Variant(resnet32, **RESNET),
        "resnet44": Variant(resnet44, **RESNET),
        "resnet56": Variant(resnet56, **RESNET),
        "resnet110": Variant(
            resnet110, **{**RESNET, "recipe": {**RESNET["recipe"], "warmup_steps": 400}}
        ),
    },
)

if __name__ == "__main__":
    from pipelines.engine.cli import main

    main(application)
