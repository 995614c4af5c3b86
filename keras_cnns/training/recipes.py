"""How long and how fast each model learns, as in its paper; nothing reads these tables but `training/`."""

from typing import NamedTuple

import keras

from keras_cnns.errors import InputError
from keras_cnns.training import schedules


class Recipe(NamedTuple):
    optimizer: str         # "sgd" with momentum 0.9, or "adamw"
    learning_rate: float   # for the batch below; falls by 10 at each drop, or along a cosine if there are none
    weight_decay: float    # of kernels; Keras decouples it: w -= rate * decay * w, outside the momentum
    batch: int             # images
    epochs: int
    warmup: int            # steps in which the rate rises from 0
    drops: tuple = ()      # epochs


RECIPES = {
    # This package's own, from random weights.
    "faster_rcnn_resnet18": Recipe("adamw", 1e-3, 1e-2, 4, 24, 40),
    # The reference script of the release: 2 images on each of 8 devices, 26 epochs of COCO from ImageNet weights.
    "faster_rcnn_resnet50_fpn": Recipe("sgd", 0.02, 1e-4, 16, 26, 1000, (16, 22)),
}


def recipe(name):
    """The recipe of a model; InputError if it has none yet."""
    if name not in RECIPES:
        raise InputError(f"No training recipe for {name!r}. Trainable: {', '.join(sorted(RECIPES))}.")
    return RECIPES[name]


def optimizer(recipe, steps_per_epoch):
    """The recipe's optimizer with its schedule; biases and batch norm's numbers do not decay."""
    steps = recipe.epochs * steps_per_epoch
    warmup = min(recipe.warmup, max(steps // 4, 1))
    if recipe.drops:
        rate = schedules.Drops(recipe.learning_rate, [epoch * steps_per_epoch for epoch in recipe.drops], warmup)
    else:
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, max(steps - warmup, 1), warmup_target=recipe.learning_rate, warmup_steps=warmup)
    if recipe.optimizer == "sgd":
        made = keras.optimizers.SGD(rate, momentum=0.9, weight_decay=recipe.weight_decay)
    else:
        made = keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay)
    made.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return made
