"""Image classification: a picture in, its most probable labels out.

    python -m pipelines.image_classification
    python -m pipelines.image_classification --dataset mnist --data_dir DIR
    python -m pipelines.image_classification --architecture resnet20 --dataset cifar --data_dir DIR
    python -m pipelines.image_classification --architecture mobilenet_v2 --preprocess.size=96

The first reads the digits that come with scikit-learn; ``--dataset folders --data_dir DIR`` reads
one's own pictures, a folder for each class. ``--augment`` names what is done to training pictures
(``pipelines/arrange/image.py``); the report shows some.

    python -m pipelines.image_classification --source.classes 5,6,7 --transfer cached --backbone RUN

puts a new head on what a finished run has learned (``pipelines/engine/transfer.py``): on its cached
activations, on its backbone as it is (``frozen``), or on one that learns on slowly (``finetune``).

    python -m pipelines.image_classification --train_dev 0.2 --dev_source digits_blurred

trains on sharp digits and chooses and tests by blurred ones; ``python -m pipelines.diagnose RUN``
then calls the gap by its name (after 20 epochs: training 4.9 %, training-dev 6.9 %, dev 20.3 %:
data mismatch; with sharp digits in all sets 0.9, 2.8 and 1.4 %; 2026-11-26).

Measured with seed 0 on two shared cores: digits 99.2 % of 359 test pictures right, 19 s of training
(AMD EPYC, 2026-11-25; seeds 1 and 2: 99.4 and 99.2 %); MNIST 0.70 % test error, 2.3 minutes of one
core in all (8 minutes beside other work; the same machine and day).

Served: ``image`` [batch] (JPEG, PNG, GIF or BMP bytes of any size) → ``labels`` and
``probabilities`` [batch, k], k = min(5, classes).
"""

from __future__ import annotations

import logging
from typing import Any

from models.alexnet import alexnet, alexnet_one_tower
from models.convolutional import convolutional_network
from models.efficientnet import (
    efficientnet_b0,
    efficientnet_b1,
    efficientnet_b2,
    efficientnet_b3,
    efficientnet_b4,
    efficientnet_b5,
    efficientnet_b6,
    efficientnet_b7,
)
from models.inception import googlenet, inception_v3
from models.inception_resnet import inception_resnet_v2
from models.lenet import lenet5, lenet5_dense
from models.mobilenet import mobilenet, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from models.network_in_network import network_in_network
from models.resnet import (
    resnet18,
    resnet20,
    resnet32,
    resnet34,
    resnet44,
    resnet50,
    resnet56,
    resnet101,
    resnet110,
    resnet152,
)
from models.vgg import vgg16, vgg19
from pipelines.arrange.image import arrange
from pipelines.engine.application import Application, Recipe, UserError, Variant
from pipelines.engine.configuration import Configuration
from pipelines.engine.transfer import Cached, FineTuned, Frozen
from pipelines.preprocess.image import ImagePreprocessor
from pipelines.sources.catalogue import Catalogue
from pipelines.sources.cifar import Cifar
from pipelines.sources.class_folders import ClassFolders
from pipelines.sources.digits import BlurredDigits, Digits
from pipelines.sources.mnist import Mnist
from pipelines.tasks.classification import Classification

log = logging.getLogger(__name__)

# LeNet's 28x28 digits lie in the middle of 32x32 pixels (LeCun et al. 1998, section II.B).
LENET = {"size": 32, "margin": 2, "channels": 1}

# He et al. 2015, section 4.2: 64,000 steps of 128 on 45,000 examples are 182 epochs.
CIFAR_RESNET = {
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


def photographs(size: int, *, scaling: str = "data", **recipe: Any) -> dict[str, Any]:
    """What an architecture made for ImageNet changes of the defaults.

    Pictures are small and the steps few, so that two cores train it: --preprocess.size=224 is most
    papers', and their running statistics are slower.

    Args:
        size: the side of the pictures.
        scaling: what the published weights or the network's own first layers expect of pixels.
        recipe: how it is fitted.
    """
    return {
        "recipe": {
            "batch_size": 32,
            "learning_rate": 1e-3,
            "epochs": 30,
            "normalization_momentum": 0.9,
            **recipe,
        },
        "preprocess": {"size": size, "channels": 3, "scaling": scaling},
        "arrange": {"augment": "crop_flip"},
    }


def check_pixels(configuration: Configuration) -> None:
    """Whether pixels are scaled as the published weights or the network's first layer expect them.

    Raises:
        UserError: if published weights are asked for and expect other pixels.
    """
    name, scaling = configuration.architecture, configuration.preprocess["scaling"]
    expected = application.architectures[name].preprocess.get("scaling", "data")
    if scaling == expected:
        return
    if configuration.model.get("weights"):
        raise UserError(
            f"the published weights of {name} need --preprocess.scaling {expected}, not {scaling}"
        )
    if expected == "bytes":
        log.warning(
            "%s expects pixels from 0 to 255 and scales them itself, but --preprocess.scaling %s "
            "hands it others",
            name,
            scaling,
        )


# Without normalisation in between, larger steps diverge.
UNNORMALISED = {"learning_rate": 1e-4}

application = Application(
    name="image_classification",
    summary="picture → labels with probabilities",
    sources={
        "digits": Variant(Digits, recipe={"epochs": 45}),
        "mnist": Variant(Mnist, recipe={"epochs": 12}),
        "folders": Variant(ClassFolders, recipe={"epochs": 30}),
        "cifar": Variant(Cifar),
        "catalogue": Variant(Catalogue),
        "digits_blurred": Variant(BlurredDigits, recipe={"epochs": 45}),
    },
    preprocessor=ImagePreprocessor,
    arrange=arrange,
    task=Classification,
    transfer={
        "cached": Variant(Cached, arrange={"augment": "none"}),
        "frozen": Variant(Frozen),
        "finetune": Variant(FineTuned),
    },
    recipe=Recipe(epochs=8, learning_rate=2e-3, schedule="cosine", monitor="val_accuracy"),
    architectures={
        "lenet5": Variant(lenet5, preprocess=LENET, arrange={"augment": "affine"}),
        "lenet5_dense": Variant(lenet5_dense, preprocess=LENET, arrange={"augment": "affine"}),
        "convolutional_network": Variant(
            convolutional_network,
            preprocess={"size": 28, "channels": 1},
            arrange={"augment": "affine"},
        ),
        "network_in_network": Variant(network_in_network, **photographs(32)),
        "alexnet": Variant(alexnet, **photographs(67, **UNNORMALISED)),
        "alexnet_one_tower": Variant(alexnet_one_tower, **photographs(67, **UNNORMALISED)),
        "vgg16": Variant(vgg16, **photographs(32, scaling="caffe", **UNNORMALISED)),
        "vgg19": Variant(vgg19, **photographs(32, scaling="caffe", **UNNORMALISED)),
        "googlenet": Variant(googlenet, **photographs(64)),
        "inception_v3": Variant(inception_v3, **photographs(75, scaling="tf")),
        "inception_resnet_v2": Variant(inception_resnet_v2, **photographs(75, scaling="tf")),
        "resnet20": Variant(resnet20, **CIFAR_RESNET),
        "resnet32": Variant(resnet32, **CIFAR_RESNET),
        "resnet44": Variant(resnet44, **CIFAR_RESNET),
        "resnet56": Variant(resnet56, **CIFAR_RESNET),
        "resnet110": Variant(
            resnet110, **{**CIFAR_RESNET, "recipe": {**CIFAR_RESNET["recipe"], "warmup_steps": 400}}
        ),
        "resnet18": Variant(resnet18, **photographs(64)),
        "resnet34": Variant(resnet34, **photographs(64)),
        "resnet50": Variant(resnet50, **photographs(64, scaling="caffe")),
        "resnet101": Variant(resnet101, **photographs(64, scaling="caffe")),
        "resnet152": Variant(resnet152, **photographs(64, scaling="caffe")),
        "mobilenet": Variant(mobilenet, **photographs(64, scaling="tf")),
        "mobilenet_v2": Variant(mobilenet_v2, **photographs(64, scaling="tf")),
        "mobilenet_v3_small": Variant(mobilenet_v3_small, **photographs(64, scaling="bytes")),
        "mobilenet_v3_large": Variant(mobilenet_v3_large, **photographs(64, scaling="bytes")),
        "efficientnet_b0": Variant(efficientnet_b0, **photographs(64, scaling="bytes")),
        "efficientnet_b1": Variant(efficientnet_b1, **photographs(64, scaling="bytes")),
        "efficientnet_b2": Variant(efficientnet_b2, **photographs(64, scaling="bytes")),
        "efficientnet_b3": Variant(efficientnet_b3, **photographs(64, scaling="bytes")),
        "efficientnet_b4": Variant(efficientnet_b4, **photographs(64, scaling="bytes")),
        "efficientnet_b5": Variant(efficientnet_b5, **photographs(64, scaling="bytes")),
        "efficientnet_b6": Variant(efficientnet_b6, **photographs(64, scaling="bytes")),
        "efficientnet_b7": Variant(efficientnet_b7, **photographs(64, scaling="bytes")),
    },
    check=check_pixels,
)

if __name__ == "__main__":
    from pipelines.engine.cli import main

    main(application)
