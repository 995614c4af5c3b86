"""What each step from R-CNN to Faster R-CNN buys: seconds an image to detect, and an epoch to train, on VGG-16.

    python tools/benchmark_regions.py [--images 4] [--proposals 2000] [--steps 3] [--output runs/regions]

The same pictures, photographs of VOC where KERAS_CNNS_DATA has them, for all: R-CNN, SPP-net in five sizes and in one,
Fast R-CNN without and with truncated SVD, Faster R-CNN; weights are random, which does not change the work. To detect
is measured image by image, the first being left out, with and without selective search. To train is measured by steps,
of R-CNN by such of 16 of the 128 regions. An epoch is of VOC07's 5,011 images: of R-CNN and SPP-net a fine-tuning batch
an image, and features once, which take as long as to detect. SVMs are not counted: they take as long for both. The
memory is the most that the process held while it detected, beyond what it held before there was a network; features
are what `training.stages` keeps of an image on disk, in half precision: fc7 of every region, pool5 of those near an
object. Prints a table and writes it as regions.md, with a chart, regions.png, to the folder.
"""

import argparse
import multiprocessing
import os
import pathlib
import time
from concurrent import futures

from keras_cnns import cli

cli.import_tensorflow()

import numpy as np  # noqa: E402

from keras_cnns.cli import grid  # noqa: E402
from keras_cnns.data import proposals, synthetic, voc  # noqa: E402
from keras_cnns.models import create_model, detector, info, module_of  # noqa: E402
from keras_cnns.models.detection import fast_rcnn, rcnn, sppnet  # noqa: E402
from keras_cnns.training import detect, recipes, stages  # noqa: E402

IMAGES = 5011  # of VOC07's trainval
# Seconds an image and how many times as fast as R-CNN, without proposals, VGG-16 ("L") on VOC07: as printed in
# arXiv:1504.08083, Table 4, on a K40; of Faster R-CNN, its own proposals included, arXiv:1506.01497, Table 5, and
# the ratio divided here.
PAPERS = {"R-CNN": "47 s, 1", "SPP-net": "2.3 s, 20", "SPP-net, one size": "", "Fast R-CNN": "0.32 s, 146",
          "Fast R-CNN, SVD": "0.22 s, 213", "Faster R-CNN": "0.198 s, 237"}
AT_ONCE = 16  # regions, of R-CNN's 128 that a step learns from


def pictures(count):
    root = os.environ.get("KERAS_CNNS_DATA")
    if root:
        return voc.samples(pathlib.Path(root, "voc", "VOCdevkit"), 2012, "train")[0][:count]
    return synthetic.samples(count)


def filled(sample, count):
    """A sample with so many proposals, those there are being repeated a little moved."""
    found, dice = sample.proposals, np.random.default_rng(0)
    rows = np.resize(np.arange(len(found)), count)
    moved = found[rows] + (np.arange(count) >= len(found))[:, None] * dice.integers(-2, 3, (count, 4))
    height, width = sample.size
    start = np.clip(moved[:, :2], 0, [width - 2, height - 2])
    end = np.clip(moved[:, 2:], start + 1, [width, height])
    return sample._replace(proposals=np.concatenate([start, end], 1).astype("float32"))


def detecting(graph, samples, before):
    """Seconds an image, those of the first left out, and GiB beyond `before`, KiB; None where the system is silent."""
    detect.detect(graph, samples[:1], batch=1, progress=False)
    grid.reset_peak()
    begun = time.perf_counter()
    detect.detect(graph, samples[1:], batch=1, progress=False)
    seconds = (time.perf_counter() - begun) / (len(samples) - 1)
    peak = grid.memory("VmHWM")
    return seconds, None if peak is None else (peak - before) / 2**20


def stepping(network, batches, steps):
    """Seconds a step, that of the first left out; its batches are made before."""
    batches = [next(batches) for _ in range(steps + 1)]
    times = []
    for batch in batches:
        begun = time.perf_counter()
        network.train_on_batch(*(batch if isinstance(batch, tuple) else (batch,)))
        times.append(time.perf_counter() - begun)
    return np.mean(times[1:])


def with_heads(network, module):
    """Assembled, of weights by chance."""
    parts = rcnn.region_features(network, module.VARIANTS[network.name]).output
    dice, classes = np.random.default_rng(0), 20
    svms = dice.normal(0, 0.01, (parts["fc7"].shape[-1], classes)), np.full(classes, -1.0)
    regressions = np.zeros((parts["pool5"].shape[-1], classes, 4)), np.zeros((classes, 4))
    return rcnn.assembled(network, svms, regressions)


def in_stages(name, samples, steps, v=None):
    """Of R-CNN or SPP-net: seconds and multiply-adds an image to detect, GiB, seconds an epoch, megabytes of features
    an image.
    """
    before, module, network = grid.memory("VmRSS"), module_of(name), create_model(name)
    v = v or module.VARIANTS[name]
    known = [stages.Known(sample, 20) for sample in samples]
    assembled = with_heads(network, module)
    answers = module.over_image(assembled, v, len(samples[0].proposals))
    graph = rcnn.decoded(name, answers, score_threshold=0.05, iou_threshold=0.3, max_detections=100)
    seconds, memory = detecting(graph, samples, before)
    recipe, learner = recipes.recipe(name), module.of_region(network)
    parts = recipe.batch // AT_ONCE if module is rcnn else 1
    if module is rcnn:
        recipe = recipe._replace(batch=AT_ONCE)
        batches = iter(stages._FineTuning(network, module, v, samples, known, recipe, 0, None).warped(0, steps + 1))
    else:
        shape = (recipe.batch, network.get_layer("spp").output.shape[-1])
        batches = iter([(np.random.default_rng(i).random(shape, "float32"), {"cls": np.arange(shape[0]) % 21})
                        for i in range(steps + 1)])
    learner.compile("sgd", loss=module.losses(name))
    step = parts * stepping(learner, batches, steps)
    features = rcnn.region_features(network, v).output
    size = np.mean([2 * (len(k.boxes) * features["fc7"].shape[-1]
                         + (k.overlap > v.pairs).sum() * features["pool5"].shape[-1]) for k in known]) / 1e6
    return seconds, info.cost(graph)[0], memory, IMAGES * (step + seconds), size


def in_one(name, samples, steps, svd=False):
    """Of a network that is trained whole: seconds and multiply-adds an image to detect, GiB, seconds an epoch."""
    before, network, recipe = grid.memory("VmRSS"), create_model(name, frozen_stages=2), recipes.recipe(name)
    graph = detector(fast_rcnn.truncated_svd(network) if svd else network)
    seconds, memory = detecting(graph, samples, before)
    if svd:
        return seconds, info.cost(graph)[0], memory, None, None
    detect.compiled(network, "sgd", recipe, samples)
    given = [samples[i % len(samples)] for i in range(recipe.batch * (steps + 1))]
    step = stepping(network, iter(detect.elements(network, given, recipe, 0, 0)), steps)
    return seconds, info.cost(graph)[0], memory, IMAGES / recipe.batch * step, None


def measured(name, samples, steps):
    """A row of the table, in numbers."""
    one = sppnet.VARIANTS["sppnet_detector_vgg16"]._replace(scales=(688,))  # arXiv:1406.4729, section 4.3
    return {
        "R-CNN": lambda: in_stages("rcnn_vgg16", samples, steps),
        "SPP-net": lambda: in_stages("sppnet_detector_vgg16", samples, steps),
        "SPP-net, one size": lambda: in_stages("sppnet_detector_vgg16", samples, steps, one),
        "Fast R-CNN": lambda: in_one("fast_rcnn_vgg16", samples, steps),
        "Fast R-CNN, SVD": lambda: in_one("fast_rcnn_vgg16", samples, steps, svd=True),
        "Faster R-CNN": lambda: in_one("faster_rcnn_vgg16", samples, steps),
    }[name]()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=4, help="to detect in, of which the first is not counted")
    parser.add_argument("--proposals", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=3, help="of training that are counted")
    parser.add_argument("--only", nargs="+", choices=PAPERS, default=list(PAPERS))
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("runs/regions"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    samples = pictures(max(options.images, 2))
    begun = time.perf_counter()
    samples = proposals.with_proposals(samples, limit=options.proposals, progress=False)
    searching = (time.perf_counter() - begun) / len(samples)
    samples = [filled(sample, options.proposals) for sample in samples]
    found = {}
    # In a process of its own each, so that none works in the memory of the one before.
    with futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        for name in options.only:
            found[name] = pool.submit(measured, name, samples, options.steps).result()
            print(f"{name}: {found[name][0]:.2f} s an image", flush=True)
    report = table(found, searching, len(samples), options)
    print(report)
    (options.output / "regions.md").write_text(report)
    chart(found, searching, options.output / "regions.png")


def table(found, searching, count, options):
    slowest, most = found[options.only[0]][:2]
    lines = [f"{count} images of {options.proposals} proposals; selective search takes {searching:.2f} s an image.",
             "",
             "| | s an image | with proposals | times as fast | in the papers | G multiply-adds | times less | "
             "memory, GiB | hours an epoch | features, MB/image | of VOC07, GB |",
             "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for name, (seconds, cost, memory, epoch, size) in found.items():
        whole = seconds + (0 if name == "Faster R-CNN" else searching)
        lines.append(f"| {name} | {seconds:.2f} | {whole:.2f} | {slowest / seconds:.1f} | "
                     f"{PAPERS[name]} | {cost / 1e9:,.0f} | {most / cost:.0f} | {f'{memory:.1f}' if memory else ''} | "
                     f"{f'{epoch / 3600:.1f}' if epoch else ''} | "
                     f"{f'{size:.1f} | {IMAGES * size / 1000:.0f}' if size else ' | '} |")
    return "\n".join(lines) + "\n"


def chart(found, searching, path):
    """Bars of seconds an image, the proposals' on top, on a scale of powers of ten."""
    from PIL import Image, ImageDraw

    values = {name: (row[0], 0.0 if name == "Faster R-CNN" else searching) for name, row in found.items()}
    low = min(seconds for seconds, _ in values.values()) / 2
    high = max(map(sum, values.values()))
    left, width, step = 170, 520, 34

    def place(seconds):
        return left + width * np.log(max(seconds, low) / low) / np.log(high / low)

    image = Image.new("RGB", (left + width + 110, 40 + step * len(values)), "white")
    pen = ImageDraw.Draw(image)
    pen.text((left, 8), "seconds an image, without (dark) and with (light) selective search; powers of ten",
             fill="black")
    for i, (name, (seconds, more)) in enumerate(values.items()):
        top = 34 + i * step
        pen.text((10, top + 6), name, fill="black")
        pen.rectangle([left, top, place(seconds + more), top + 22], fill=(176, 196, 222))
        pen.rectangle([left, top, place(seconds), top + 22], fill=(49, 87, 145))
        pen.text((place(seconds + more) + 6, top + 6), f"{seconds:.2f}, {seconds + more:.2f}", fill="black")
    image.save(path)


if __name__ == "__main__":
    main()
