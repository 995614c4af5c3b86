"""A run of training is a folder: started again with the same words, it goes on where it was.

    settings.json   what makes the run; another run's folder is refused
    labels.txt      class names in order
    checkpoint/     network.keras (with optimizer and random states) and history.json, after every epoch
    network.keras   the trained network, when all epochs are done
    history.json    the numbers of each epoch
"""

import inspect
import json
import os
import pathlib
import shutil
import sys

import keras

from keras_cnns import models
from keras_cnns.data import batches
from keras_cnns.errors import InputError
from keras_cnns.training import callbacks, classify, detect, distribute, keypoints, recipes, segment
from keras_cnns.weights import create_model


TASKS = {  # who says what is compiled, fed and evaluated
    "classification": classify, "detection": detect, "keypoints": keypoints, "segmentation": segment}


def train(name, samples, class_names, folder, recipe=None, input_shape=None, seed=0, weights=None, validation=(),
          devices=None, task=None, **options):
    """Trains a network on samples, from its last checkpoint if the folder has one.

    Args:
      name: of the model. samples: `data.samples.Sample`s, checked; a classifier's all with `label`, one class an image,
        or all with `present`, several; then the network ends in sigmoids.
      class_names: 1...K in order, a classifier's 0...K-1.
      folder: of the run; made if missing.
      recipe: `recipes.Recipe`, by default the model's own. input_shape, weights: as of `create_model`.
      seed: of weights, order, augmentation and sampling; the same seed gives the same run on the same CPU (GPUs
        add in any order).
      validation: samples to evaluate on after each epoch. devices: as of `distribute.strategy`.
      task: what stands in for the model's row of `TASKS`, such as a step of `alternate`.
      options: what `create_model` takes besides, such as a backbone.

    Returns:
      `(network, history)`: the whole trained network, and a dict of numbers an epoch: "loss", with the decay where the
      recipe has it in the gradient, those of `compile`, and of the validation samples what `TASKS` evaluates.

    Raises:
      InputError: no samples, a folder of another run or one that cannot be written, a batch the devices cannot share.
      FloatingPointError: the loss became no number; the checkpoint before stands.
    """
    if not samples:
        raise InputError("No samples to train on; name a data set or a split that has some.")
    recipe = recipe or recipes.recipe(name)
    task = task or TASKS[models.module_of(name).TASK]
    made = {**_frozen(name, weights), **task.options(name, samples), **options}
    classes = len(class_names) + getattr(task, "BACKGROUND", 0)
    folder = pathlib.Path(folder)
    settings = json.loads(json.dumps({
        "model": name, "input_shape": input_shape, "seed": seed, "weights": weights and str(weights),
        "recipe": recipe._asdict(), "classes": list(class_names), "images": [s.image_id for s in samples],
        "options": options or None}))
    _refuse_another_run(folder, settings)
    strategy = distribute.strategy(devices)
    replicas = strategy.num_replicas_in_sync if strategy else 1
    if recipe.batch % replicas:
        raise InputError(f"A batch of {recipe.batch} cannot be shared evenly by {replicas} devices; give a multiple of "
                         f"{replicas} as the batch, or fewer devices.")
    steps = batches.steps_per_epoch(samples, recipe.batch)
    with distribute.scope(strategy):
        keras.utils.set_random_seed(seed)
        network = create_model(name, input_shape, classes, weights, **made)
        # The network holds the optimizer, too, so that they are saved together; what is trained may be a part of it.
        network.compile(recipes.optimizer(recipe, steps))
        recipes.decay_in_gradient(network, recipe)
        trained = task.compiled(network, network.optimizer, recipe, samples)
        _claim(folder, class_names, settings)  # not before all that could be wrong has been tried
        network.optimizer.build(network.trainable_variables)  # so that there is something to load into
        history = callbacks.resume(network, folder / "checkpoint")
        if replicas > 1:
            distribute.synchronize(network)
    done = len(history)
    if done < recipe.epochs:
        checkpoint = callbacks.Checkpoint(folder / "checkpoint", history, network)
        # Made outside the scope, so that it looks at each image once, not once a replica.
        evaluation = [callbacks.Evaluate(task.evaluation(network, validation, recipe.batch))] if validation else []
        trained.fit(
            task.elements(network, samples, recipe, seed, done * steps), shuffle=False,
            epochs=recipe.epochs, initial_epoch=done, steps_per_epoch=steps,
            verbose=1 if sys.stdout.isatty() else 2,  # a bar for people, a line an epoch for files
            callbacks=[*evaluation, checkpoint, keras.callbacks.TerminateOnNaN()])
        history = checkpoint.history
    for file in ("network.keras", "history.json"):
        _put(folder / "checkpoint" / file, folder / file)
    return network, history


def _frozen(name, weights):
    """Of a detector that begins with released weights the first two stages do not learn, as its authors have it."""
    released = weights and not str(weights).endswith((".keras", ".weights.h5"))
    freezes = "frozen_stages" in inspect.signature(models.module_of(name).build).parameters
    return {"frozen_stages": 2} if released and freezes else {}


def _put(source, target):
    aside = target.with_name(f".{target.name}.writing")
    shutil.copyfile(source, aside)
    os.replace(aside, target)


def _refuse_another_run(folder, settings):
    """InputError if the folder holds a run with other settings."""
    try:
        stands = json.loads((folder / "settings.json").read_text())
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / 'settings.json'}: cannot be read ({error}); name another folder.") from None
    if "recipe" in stands:  # whose fields of later had their defaults
        stands["recipe"] = json.loads(json.dumps(recipes.Recipe._field_defaults)) | stands["recipe"]
    other = [key for key in settings if stands.get(key) != settings[key]]
    if other:
        raise InputError(f"{folder}: holds a run with other {', '.join(other)}; repeat that run's settings "
                         "to go on with it, or name another folder.")


def _claim(folder, class_names, settings):
    """Makes the folder this run's."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "labels.txt").write_text("".join(f"{name}\n" for name in class_names))
        aside = folder / ".settings.json.writing"
        aside.write_text(json.dumps(settings, indent=1))
        os.replace(aside, folder / "settings.json")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); name a folder that can.") from None
