"""Region proposals: boxes in which objects may be, found without a network.

    selective_search          Uijlings et al., Selective Search for Object Recognition, IJCV 2013, in its fast form, as
                              R-CNN uses it: about 2,000 boxes of a photograph
    selective_search_quality  its other form: three times as many, in three times the time
    edge_boxes:MODEL          Zitnick, Dollar, Edge Boxes, ECCV 2014, on edges of structured forests (ICCV 2013), whose
                              trained model is a file, such as opencv_extra's model.yml.gz
    edge_boxes_of_gradients   the same on Canny's edges, as strong as their gradients, for want of a model
    PATH.npz                  boxes from a file: `image_id -> [R, 4]`, as here
    PATH.mat                  boxes from a file of R-CNN's authors: `images` and `boxes`, rows (y1, x1, y2, x2),
                              1-based, the last pixel included

The first four are OpenCV's, of its contributed modules. Unlike R-CNN's authors, who make every image 500 pixels wide
before, an image is searched as it is.
"""

import hashlib
import io
import os
import pathlib
import threading

import numpy as np

from keras_cnns.data import images, kept
from keras_cnns.data import samples as data_samples
from keras_cnns.errors import InputError

LIMIT = 2000  # about R-CNN's, section 2.2
VERSION = 1  # of what the methods below find


def with_proposals(samples, method="selective_search", cache=None, limit=LIMIT, progress=True):
    """The samples with `proposals`, `[R, 4]` float32 pixels of their own image, R <= limit, no box twice.

    Args:
      method: of those above. cache: a folder, made if missing, that keeps what was found of each image (all, whatever
        the limit), by the image's bytes and the method; another run goes on with it. A file there that is damaged, or
        of something else, is made anew.
      limit: of boxes an image. The first are kept: of selective search in the paper's order, large ones early, with
        some chance; of Edge Boxes the surest.
      progress: show a bar on standard error, if that is a terminal.

    Raises:
      InputError: no such method, OpenCV without these modules, an image that cannot be read, or one of which the file
        has no boxes.
    """
    samples, path = list(samples), pathlib.Path(method)
    if path.suffix in (".npz", ".mat"):
        known = _from_file(path)
        if without := [s.name for s in samples if s.image_id not in known]:
            raise InputError(f"{path}: has no boxes of {without[0]}; give a file that has those of every image.")
        return [sample._replace(proposals=known[sample.image_id][:limit]) for sample in samples]
    find = _finder(method)
    if cache is not None:
        cache = pathlib.Path(cache)
        try:
            cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{cache}: cannot be written ({error.strerror}); name a folder that can.") from None

    def found(sample):
        contents = images.read(sample.source, sample.name)
        key = hashlib.sha256(f"{VERSION} {method}\n".encode() + contents).hexdigest()
        file = cache and cache / f"{key[:32]}.npz"
        boxes = _kept(file, key) if file else None
        if boxes is None:
            boxes = find(images.decode(contents, sample.name), int(key[:8], 16))
            if file:
                _keep(file, key, boxes)
        return sample._replace(proposals=boxes[:limit])

    return list(data_samples.in_parallel(found, samples, "Proposing regions", progress))


def _kept(file, key):
    """The boxes of a file of the cache; None if there is none, or not of this key, or a damaged one."""
    found = kept.arrays(file, ("boxes", "key"))
    if found and str(found["key"]) == key and found["boxes"].dtype == np.float32 and found["boxes"].shape[1:] == (4,):
        return found["boxes"]
    return None


def _keep(file, key, boxes):
    contents = io.BytesIO()
    np.savez(contents, boxes=boxes, key=key)
    aside = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_ident()}.writing")
    try:
        aside.write_bytes(contents.getvalue())
        os.replace(aside, file)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise InputError(f"{file}: cannot be written ({error.strerror}); name a cache with room.") from None


def _finder(method):
    """A function of an image, uint8 `[H, W, 3]`, and a seed to boxes `[R, 4]`, float32."""
    try:
        import cv2

        contributed = cv2.ximgproc
    except (ImportError, AttributeError):
        raise InputError(
            f"Proposals by {method} need OpenCV's contributed modules: pip install \"keras_cnns[regions]\"; and if "
            "another OpenCV took their place, pip install --force-reinstall --no-deps opencv-contrib-python-headless."
        ) from None
    name, _, model = str(method).partition(":")
    if name in ("selective_search", "selective_search_quality") and not model:
        return lambda image, seed: _selective_search(contributed, image, name.endswith("quality"), seed)
    if name == "edge_boxes_of_gradients" and not model:
        return lambda image, seed: _edge_boxes(contributed, *_edges_of_gradients(cv2, image))
    if name == "edge_boxes" and model:
        try:
            forest = contributed.createStructuredEdgeDetection(model)
        except cv2.error:
            raise InputError(f"{model}: no model of structured forests; give opencv_extra's model.yml.gz, or take "
                             "edge_boxes_of_gradients.") from None
        return lambda image, seed: _edge_boxes(contributed, *_edges_of_forest(forest, image))
    raise InputError(f"No method {str(method)!r} of proposals. Known: selective_search, selective_search_quality, "
                     "edge_boxes:MODEL, edge_boxes_of_gradients, or the path of an .npz or .mat file.")


def _selective_search(contributed, image, quality, seed):
    search = contributed.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(image[..., ::-1]))  # blue before red
    search.switchToSelectiveSearchQuality() if quality else search.switchToSelectiveSearchFast()
    boxes = _corners(search.process())
    # The paper's order, section 3.3, is the place in the hierarchy times chance. OpenCV's chance differs from call to
    # call; so it is made anew, the place being that by area.
    boxes = np.unique(boxes, axis=0)
    place = np.argsort(np.argsort(-np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), kind="stable"))
    return boxes[np.argsort((1 + place) * np.random.default_rng(seed).uniform(size=len(boxes)), kind="stable")]


def _edge_boxes(contributed, edges, directions):
    search = contributed.createEdgeBoxes(maxBoxes=10000)  # the authors' own
    boxes = _corners(search.getBoundingBoxes(edges, directions)[0])
    return boxes[np.sort(np.unique(boxes, axis=0, return_index=True)[1])]


def _edges_of_forest(forest, image):
    edges = forest.detectEdges(np.float32(image) / 255)
    directions = forest.computeOrientation(edges)
    return forest.edgesNms(edges, directions), directions


def _edges_of_gradients(cv2, image):
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (5, 5), 0)
    x, y = (cv2.Sobel(grey, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    strength = np.where(cv2.Canny(grey, 20, 60) > 0, np.hypot(x, y), 0)
    return np.float32(strength / max(strength.max(), 1)), np.float32(np.arctan2(y, x) % np.pi)


def _corners(rectangles):
    """`(x, y, width, height) -> (x1, y1, x2, y2)`, float32; `[0, 4]` of none."""
    boxes = np.array(rectangles, "float32").reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _from_file(path):
    """`image_id -> [R, 4]`."""
    try:
        if path.suffix == ".npz":
            with np.load(path) as contents:
                found = {key: np.float32(contents[key]) for key in contents}
        else:
            found = _of_authors(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except kept.DAMAGE as error:
        raise InputError(f"{path}: is no file of proposals ({error}).") from None
    for key, boxes in found.items():
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise InputError(f"{path}: boxes of {key!r} are of shape {boxes.shape}, expected [R, 4].")
        wrong = ~(np.isfinite(boxes).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1))
        if wrong.any():
            raise InputError(f"{path}: box {wrong.argmax()} of {key!r} is {boxes[wrong.argmax()].tolist()}; expected "
                             "(x1, y1, x2, y2), pixels, of some area.")
    return {key: boxes[np.sort(np.unique(boxes, axis=0, return_index=True)[1])] for key, boxes in found.items()}


def _of_authors(path):
    try:
        from scipy.io import loadmat
    except ImportError:
        raise InputError(f'{path}: .mat files are read with SciPy: pip install "keras_cnns[regions]".') from None
    contents = loadmat(path)
    names = [str(name.item()) for name in contents["images"].reshape(-1)]
    rows = (np.float32(boxes).reshape(-1, 4) for boxes in contents["boxes"].reshape(-1))
    return {name: boxes[:, [1, 0, 3, 2]] - np.float32([1, 1, 0, 0]) for name, boxes in zip(names, rows, strict=True)}
