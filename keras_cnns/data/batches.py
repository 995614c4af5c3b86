"""Samples to batches of a network's input: to train on, from any step on, and to be looked at."""

import numpy as np
import tensorflow as tf

from keras_cnns.data import images, views
from keras_cnns.data import samples as data_samples
from keras_cnns.errors import InputError


def steps_per_epoch(samples, batch, workers=1, remainder="drop"):
    """Batches in one pass of one worker, at least one, the same number for every worker.

    No batch is ever short, so no replica is ever empty: what is left over at the end of an epoch is dropped ("drop"),
    or its batch filled up with samples from the epoch's beginning ("pad").

    Raises:
      InputError: another remainder.
    """
    if remainder not in ("drop", "pad"):
        raise InputError(f"No remainder {remainder!r}. Known: 'drop', 'pad'.")
    share = -(-len(samples) // workers) if remainder == "pad" else len(samples) // workers
    return max(-(-share // batch) if remainder == "pad" else share // batch, 1)


def epoch(count, batch, seed, number, worker=0, workers=1, remainder="drop"):
    """Which samples a worker sees in an epoch: indices `[steps, batch]`.

    Every epoch is a new order of all samples, of which worker w takes the w-th, then every `workers`-th: no two
    workers have one in common, and together they have all (but for what `remainder` drops or repeats).
    """
    order = np.random.default_rng([seed, number]).permutation(count)
    steps = steps_per_epoch(order, batch, workers, remainder)
    return np.resize(order, steps * batch * workers)[worker::workers].reshape(steps, batch)


def bucketed(samples, sizes):
    """The size each sample's proportions are nearest to: indices into `sizes`, `[N]`.

    Raises:
      InputError: an image whose size the annotation does not say, and which cannot be read.
    """
    sides = np.array([s.size if s.size != (0, 0) else images.upright_size(s.source, s.name) for s in samples], float)
    aspects = np.log([height / width for height, width in sizes])
    return np.abs(np.log(sides[:, :1] / sides[:, 1:]) - aspects).argmin(1)


def training(samples, image_size, batch, epochs, seed, first_step=0, view=views.letterboxed_or_mirrored, colour=None,
             change=None, mix=None, pairs=(), keep="visible", worker=0, workers=1, remainder="drop", crop=None,
             regions=None):
    """The training input of a network, from any step on.

    Every epoch is a new order of the samples, every place in it a new chance of augmentation; both follow from
    `seed` alone, so a run that starts again at `first_step` sees just what it would have seen, on any number of
    threads.

    Args:
      samples: `data.samples.Sample`s. image_size: (height, width).
      view: one of `views`' with the arguments (size, canvas, boxes, seed).
      colour: function of (image `[h, w, 3]` float32, 0 to 255; seed) to the same, such as `augment.photometric`.
      change: function of (element on its canvas, seed) to the same, such as `augment.elastic`.
      mix: function of (batch, as it is returned; seed) to what is returned instead, for `augment.mixup` and `cutmix`.
      pairs, keep: as of `views.render`.
      worker, workers, remainder: as of `epoch`.
      crop: cells to a side of what masks are cut to, around their boxes (`ops.masks.window`): masks of a whole canvas
        for each of a hundred objects are a hundred images. None leaves them whole.
      regions: rows of proposals, where samples have any; by default as many as any has.

    Returns:
      `tf.data.Dataset` of dicts: image `[batch, H, W, 3]` float32; boxes `[batch, G, 4]` in its pixels; labels
      `[batch, G]` int32, 0 in rows of padding, -1 where ground truth is to be ignored; G is the same throughout. And,
      where the samples have them, masks `[batch, G, H, W]` or `[batch, G, crop, crop]`, keypoints `[batch, G, J, 3]`,
      segmentation `[batch, H, W]`, label `[batch]`, present `[batch, K]`; and proposals `[batch, R, 4]`, clipped like
      boxes, R the same throughout, rows of zeros among them.

    Raises:
      InputError: some samples have what others have not; or one has more proposals than `regions`.
    """
    items = places(len(samples), batch, epochs, seed, first_step, worker, workers, remainder)
    read = data_samples.reader(samples, most_objects(samples), regions)
    return batched(items, read, image_size, batch, seed, view, colour, change, mix, pairs, keep, crop)


def places(count, batch, epochs, seed, first_step=0, worker=0, workers=1, remainder="drop"):
    """The course of a run: `tf.data.Dataset` of (index of a sample, its place among all workers' places), int64.

    Each epoch's order is made when it begins, so a long run takes no more memory than a short one.
    """
    if not count:
        raise InputError("No samples; name a data set or a split that has some.")
    share = steps_per_epoch(range(count), batch, workers, remainder) * batch

    def one_epoch(number):
        order = tf.numpy_function(
            lambda number: epoch(count, batch, seed, number, worker, workers, remainder).reshape(-1), [number],
            tf.int64)
        place = number * share + tf.range(share, dtype=tf.int64)
        return tf.data.Dataset.from_tensor_slices((tf.ensure_shape(order, [share]), place * workers + worker))

    first = first_step * batch
    items = tf.data.Dataset.range(first // share, epochs).flat_map(one_epoch).skip(first % share)
    return items.apply(tf.data.experimental.assert_cardinality(max(epochs * share - first, 0)))


def training_in_buckets(samples, sizes, batch, epochs, seed, first_step=0, view=views.letterboxed_or_mirrored,
                        colour=None, change=None, mix=None, pairs=(), keep="visible"):
    """As `training`, with batches of several sizes, so that wide and tall images need little padding.

    An image is seen at the size whose proportions are nearest to its own (`bucketed`); each batch has one size. The
    last batch of a size is filled up from the size's first. An epoch has as many steps as `bucket_batches` gives.
    """
    bucket = bucketed(samples, sizes)
    steps = [bucket_batches(bucket, batch, seed, number) for number in range(epochs)]
    order, buckets = (np.concatenate([part[i] for part in steps])[first_step:] for i in range(2))
    place = np.arange(first_step * batch, first_step * batch + order.size)
    canvases = np.asarray(sizes, "int32")[np.repeat(buckets, batch)]
    items = tf.data.Dataset.from_tensor_slices((order.reshape(-1), place, canvases))
    read = data_samples.reader(samples, most_objects(samples))
    return batched(items, read, None, batch, seed, view, colour, change, mix, pairs, keep)


def bucket_batches(bucket, batch, seed, number):
    """An epoch in buckets, of what `bucketed` gives: indices into the samples, `[steps, batch]`, and into the sizes,
    `[steps]`.
    """
    dice = np.random.default_rng([seed, number])
    order, of = [], []
    for i in np.unique(bucket):
        members = dice.permutation(np.flatnonzero(bucket == i))
        steps = -(-len(members) // batch)
        order.extend(np.resize(members, (steps, batch)))
        of.extend([i] * steps)
    shuffled = dice.permutation(len(of))
    return np.array(order)[shuffled], np.array(of)[shuffled]


def most_objects(samples):
    """The largest number of objects in an image, at least 1: rows that hold the ground truth of any."""
    return max([1, *(len(s.boxes) for s in samples)])


def batched(items, read, image_size, batch, seed, view=views.letterboxed_or_mirrored, colour=None, change=None,
            mix=None, pairs=(), keep="visible", crop=None):
    """Batches of rendered elements; arguments and result as of `training`.

    Args:
      items: `tf.data.Dataset` of (item; its place in the run, int64 `[]`, from which its chance follows), and, where
        `image_size` is None, its canvas `(height, width)`, int32 `[2]`.
      read: function of an item to its element as of `samples.reader`, with the same number of objects in all.
    """
    def prepare(item, place, canvas=image_size):
        element = read(item)
        chance = tf.stack([tf.constant(seed, tf.int64), place])
        image = images.opened(element["image"], element["name"])
        window, mirrored = view(tf.cast(image.size, tf.float32), canvas, element["boxes"], chance)
        painted = colour and (lambda pixels: colour(pixels, views.another_seed(chance, 9)))  # dice of its own
        element, scale, shift = views.look({**element, "image": image}, window, canvas, mirrored, colour=painted)
        if change:
            element = views.move(views.with_all_masks(element), scale, shift, canvas, pairs, keep)
            element = change(element, views.another_seed(chance, 8))
            scale, shift = tf.ones([2]), tf.zeros([2])
        if crop:
            boxes = {"boxes": element["boxes"][:tf.shape(element["masks"])[0]]}
            boxes = views.move(boxes, scale, shift, canvas)["boxes"]
            element["masks"] = views.cut_out(element["masks"], boxes, crop)
        element = {key: value for key, value in element.items() if key not in ("name", "image_id")}
        return views.with_all_masks(element), scale, shift, chance

    def finish(elements, scale, shift, chance):  # of a batch at once, since many small ops an image take their time
        elements = views.move(elements, scale, shift, tf.shape(elements["image"])[1:3], pairs, keep)
        elements["labels"] = tf.where(elements.pop("ignored"), -1, elements["labels"])
        return mix(elements, views.another_seed(chance[0], 7)) if mix else elements

    elements = items.map(prepare, tf.data.AUTOTUNE, deterministic=True).batch(batch, drop_remainder=True)
    return one_thread_an_op(elements.map(finish, tf.data.AUTOTUNE, deterministic=True).prefetch(2))


def one_thread_an_op(elements):
    """The same elements; the images are made in parallel, not the parts of an image, which on a few cores is faster."""
    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1
    return elements.with_options(options)


def canvases(samples, image_size, batch, fit=images.letterbox, regions=None, channels=3):
    """Every sample once, in order, letterboxed; or as another `fit` of `data.images` brings them to the size.

    Returns:
      `tf.data.Dataset` of (canvas `[B, H, W, channels]` float32, grey if that is one; scale `(x, y)`, canvas pixels to
      an image pixel, `[B, 2]`; width and height of the images, `[B, 2]` float32); the last batch may be short. Of
      samples with proposals the canvas is a dict of image and proposals `[B, R, 4]`, in its pixels, R being `regions`
      or as many as any has.
    """
    def prepare(element):
        image, scale = fit(element["image"], image_size)
        image = images.of_channels(image, channels)
        return _shown(element, image, scale), scale, tf.cast(tf.shape(element["image"])[:2][::-1], tf.float32)

    elements = data_samples.dataset(samples, regions=regions).map(prepare, tf.data.AUTOTUNE, deterministic=True)
    return one_thread_an_op(elements.batch(batch).prefetch(2))


def _shown(element, image, scale):
    """What a network is shown of an element: the resized image, and proposals where there are any."""
    if "proposals" not in element:
        return image
    return {"image": image, "proposals": element["proposals"] * tf.tile(scale, [2])}


def resized(samples, shorter=800, longer=1333, regions=None, channels=3):
    """Every sample once, in order and alone, its shorter side so many pixels, the longer at most so many.

    The sizes, and the bilinear pixels, that torchvision's detectors make of an image (FPN, section 5; Mask R-CNN,
    section 3.1).

    Returns:
      as `canvases`, a batch being one image of a size of its own.
    """
    def prepare(element):
        given = tf.shape(element["image"])[:2]
        sides = tf.cast(given, tf.float64)  # as Python calculates
        factor = tf.minimum(shorter / tf.reduce_min(sides), longer / tf.reduce_max(sides))
        size = tf.floor(sides * factor)
        image = images.of_channels(tf.image.resize(element["image"], tf.cast(size, tf.int32)), channels)
        scale = tf.cast(size / sides, tf.float32)[::-1]
        return _shown(element, image, scale), scale, tf.cast(sides, tf.float32)[::-1]

    elements = data_samples.dataset(samples, regions=regions).map(prepare, tf.data.AUTOTUNE, deterministic=True)
    return one_thread_an_op(elements.batch(1).prefetch(2))


def with_targets(elements, encode, names):
    """What `fit` takes of a single-shot detector: `(image, {name: targets})`, the same targets under each name.

    Args:
      elements: batches as `training` gives them.
      encode: of boxes `[G, 4]` and labels `[G]`, NumPy, to an array float32 of one shape for all images.
    """
    shape = encode(np.zeros((1, 4), "float32"), np.zeros(1, "int32")).shape

    def of_batch(boxes, labels):
        return np.stack([encode(*truth) for truth in zip(boxes, labels)])

    def prepare(batch):
        targets = tf.numpy_function(of_batch, [batch["boxes"], batch["labels"]], tf.float32)
        targets.set_shape((batch["boxes"].shape[0], *shape))
        return batch["image"], dict.fromkeys(names, targets)

    return elements.map(prepare, tf.data.AUTOTUNE, deterministic=True).prefetch(2)
