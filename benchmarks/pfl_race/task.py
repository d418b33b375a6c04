"""What both sides of `apple_pfl.py` train; needs torch alone."""

from __future__ import annotations

from torch import nn

NUM_USERS, COHORT_SIZE, NUM_EXAMPLES = 1000, 50, 50
BATCH_SIZE, LEARNING_RATE = 10, 0.1
NUM_CHANNELS, IMAGE_SIZE, NUM_CLASSES = 3, 32, 10
"""As in pfl's own benchmark on CIFAR-10."""
CONVOLUTIONS, HIDDEN = (32, 64), 128
MLP_WIDTHS = (200, 200)


def cnn(num_channels: int, num_classes: int, image_size: int) -> nn.Module:
    """Return the network of pfl's own benchmark on CIFAR-10 (its `simple_cnn`).

    Two unpadded 3x3 convolutions, a pooling, a hidden layer, dropout before both linear layers.
    """
    first, second = CONVOLUTIONS
    pooled = (image_size - 4) // 2
    return nn.Sequential(
        nn.Conv2d(num_channels, first, 3),
        nn.ReLU(),
        nn.Conv2d(first, second, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(second * pooled**2, HIDDEN),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(HIDDEN, num_classes),
    )


def mlp(num_channels: int, num_classes: int, image_size: int) -> nn.Module:
    """Return two hidden layers of 200 (its `simple_dnn`, the 2NN of McMahan et al., 2017)."""
    first, second = MLP_WIDTHS
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(num_channels * image_size**2, first),
        nn.ReLU(),
        nn.Linear(first, second),
        nn.ReLU(),
        nn.Linear(second, num_classes),
    )


NETWORKS = {"mlp": mlp, "cnn": cnn}
