"""One picture as the five tasks see it: classification, localisation, detection, semantic and instance segmentation.

    python tools/task_family.py [DATA] [--split val2017] [--image ID] [--output task_family.png]

DATA is of objects with masks, such as coco:PATH; without it a drawn picture is taken. What is drawn is ground truth.
"""

import argparse

from keras_cnns import cli

cli.import_tensorflow()

import numpy as np  # noqa: E402

from keras_cnns import pictures  # noqa: E402
from keras_cnns.data import named, synthetic  # noqa: E402
from keras_cnns.data import samples as data_samples  # noqa: E402


def chosen(samples, image):
    """The sample of an id; or one with two objects of a class, which only the last task tells apart, and of these the
    one of the most classes."""
    if image is not None:
        return next((sample for sample in samples if sample.image_id == image), None)
    labels = [list(sample.labels[~sample.ignored]) for sample in samples]
    return max(zip(samples, labels), key=lambda pair: (len(pair[1]) > len(set(pair[1])), len(set(pair[1]))))[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?")
    parser.add_argument("--split", default="val2017")
    parser.add_argument("--image", help="its id; default one of many classes")
    parser.add_argument("--output", default="task_family.png")
    options = parser.parse_args()
    if options.data:
        samples, names, _ = named.detection(options.data, options.split)
        samples = [sample for sample in samples if sample.masks is not None and not np.all(sample.ignored)]
    else:
        samples, names = synthetic.samples(40, masks=True), synthetic.CLASSES
    sample = chosen(samples, options.image) if samples else None
    if sample is None:
        parser.error(f"{options.data or 'drawn pictures'}: no image {options.image or 'with masks'}; give coco:PATH, "
                     "--split, and an --image of it")
    real = np.flatnonzero(~np.asarray(sample.ignored))
    picture = pictures.task_family(data_samples.pixels(sample), sample.boxes[real], sample.labels[real],
                                   data_samples.masks(sample)[real], names)
    picture.save(options.output)
    print(f"{options.output}: {sample.name}, {len(real)} objects")


if __name__ == "__main__":
    main()
