"""The learners of R-CNN that are no networks (arXiv:1311.2524): SVMs with hard negatives, section 2.3 and appendix B,
and regressions of boxes, appendix C. Numbers that the paper does not tell are those of the authors' code.
"""

import numpy as np
import rich.console
import rich.progress

from keras_cnns.errors import InputError

NORM = 20.0       # of features on average, to which they are scaled
COST = 1e-3       # C
WEIGHT = 2.0      # of a positive's loss
BIAS = 10.0       # a feature of this size whose weight is the bias: so it is hardly held back
HARD, EASY = -1.0001, -1.2  # margins from which a negative is taken up, and below which it is let go
ENOUGH = 2000     # new negatives of a class after which it learns again
STATE = ("weights", "biases", "begin", "new", "keys")  # arrays of a run that goes on


def fit(positives, negatives, cost=COST):
    """A linear SVM, hinge loss: `[P, F], [N, F] ->` weights `[F]`, bias; cost is C.

    Without negatives, all are said to be positive.
    """
    try:
        from sklearn.svm import LinearSVC
    except ImportError:
        raise InputError('SVMs are trained with scikit-learn: pip install "keras_cnns[regions]".') from None
    if not len(negatives):
        return np.zeros(positives.shape[1], "float32"), 1.0
    svm = LinearSVC(loss="hinge", C=cost, class_weight={1: WEIGHT}, intercept_scaling=BIAS, max_iter=10000,
                    random_state=0)
    svm.fit(np.concatenate([positives, negatives]), np.repeat([1, -1], [len(positives), len(negatives)]))
    return np.float32(svm.coef_[0]), float(svm.intercept_[0])


def mined(images, classes, state=None, keep=None, progress=True, cost=COST):
    """A linear SVM a class, its negatives the hard ones of one pass over the images.

    Args:
      images: a sequence of `(features [R, F], truth [R], negative [R, classes])`; truth 1...classes of an object's own
        box, 0 of others; negative says of which classes a region is none.
      state: as `keep` was given it, to go on from there. keep: function that is given the state now and then, a dict of
        arrays that says which negatives are held, not what they look like.
      cost: as of `fit`.

    Returns:
      weights `[F, classes]` and biases `[classes]` of margins, float32, -inf of a class without positives.
    """
    def shown(numbers, title):
        console = rich.console.Console(stderr=True)
        return rich.progress.track(numbers, title, transient=True, disable=not (progress and console.is_terminal),
                                   console=console)

    positives, norms = [[] for _ in range(classes)], []
    for i in shown(range(len(images)), "Positives"):
        features, truth, _ = images[i]
        norms.append(np.linalg.norm(features, axis=1))
        for k in range(classes):
            positives[k].append(features[truth == k + 1])
    scale = NORM / max(np.concatenate(norms).mean(), 1e-6)
    positives = [np.concatenate(of_class) * scale for of_class in positives]
    learnt = [k for k in range(classes) if len(positives[k])]
    width = positives[0].shape[1]

    if state is None:
        weights, biases, begin = np.zeros((width, classes), "float32"), np.full(classes, -np.inf, "float32"), 0
        keys, new = [np.zeros((0, 2), int) for _ in range(classes)], np.zeros(classes, int)
    else:
        weights, biases, begin, new = (state[key].copy() for key in ("weights", "biases", "begin", "new"))
        keys = [state["keys"][state["keys"][:, 0] == k, 1:] for k in range(classes)]
    held = [_rows(images, of_class, width) * scale for of_class in keys]

    for i in shown(range(int(begin), len(images)), "Hard negatives"):
        features, _, negative = images[i]
        features = features * scale
        margins, again = features @ weights + biases, False
        for k in learnt:
            taken = np.flatnonzero(negative[:, k] & ((i == 0) | (margins[:, k] > HARD)))
            if len(taken):
                keys[k] = np.concatenate([keys[k], np.stack([np.full_like(taken, i), taken], 1)])
                held[k] = np.concatenate([held[k], features[taken]])
                new[k] += len(taken)
            if i == 0 or i == len(images) - 1 or new[k] > ENOUGH:
                weights[:, k], biases[k] = fit(positives[k], held[k], cost)
                hard = held[k] @ weights[:, k] + biases[k] >= EASY
                keys[k], held[k], new[k], again = keys[k][hard], held[k][hard], 0, True
        if again and keep:
            numbered = [np.insert(of_class, 0, k, axis=1) for k, of_class in enumerate(keys)]
            keep({"weights": weights.copy(), "biases": biases.copy(), "begin": np.array(i + 1), "new": new.copy(),
                  "keys": np.concatenate(numbered)})
    return weights * np.float32(scale), biases


def _rows(images, keys, width):
    """The features of `(image, row)` pairs, `[n, 2] -> [n, width]`."""
    found = np.zeros((len(keys), width), "float32")
    for i in np.unique(keys[:, 0]):
        own = keys[:, 0] == i
        found[own] = images[int(i)][0][keys[own, 1]]
    return found


def ridge(parts, penalty):
    """Ridge regression of boxes' offsets: features `[N, P]`, offsets `[N, 4] ->` weights `[P, 4]`, biases `[4]`.

    Features are scaled to a norm of 20, offsets are made uncorrelated before, and the bias is a feature, held back as
    all others.

    Args:
      parts: an iterable of pairs `(features [n, P], offsets [n, 4])`, walked once; of features no more than P rows and
        matrices of `[P, P]` are ever held. Zeros are answered if all are of no rows.
    """
    held, offsets, norms, matrix, products, width = [], [], 0.0, None, 0.0, 0
    for features, own in parts:
        width = features.shape[1]
        held.append(features)
        offsets.append(np.float64(own))
        norms += np.linalg.norm(np.float64(features), axis=1).sum()
        if matrix is None and sum(map(len, held)) > width:
            matrix = np.zeros((width + 1, width + 1))
        if matrix is not None:
            for rows, goals in zip(held, offsets[-len(held):]):
                x = _with_ones(rows)
                matrix += x.T @ x
                products += x.T @ _with_ones(goals)
            held.clear()
    offsets = np.concatenate(offsets)
    if not len(offsets):
        return np.zeros((width, 4), "float32"), np.zeros(4, "float32")
    scale = np.append(np.full(width, NORM / max(norms / len(offsets), 1e-6)), 1.0)
    mean = offsets.mean(0)
    spread, axes = np.linalg.eigh(np.cov((offsets - mean).T, bias=True))
    spread = np.sqrt(np.maximum(spread, 0.0) + 1e-3)
    whitened = np.concatenate([axes, -mean[None] @ axes]) / spread @ axes.T  # `[offsets, 1] @` this
    if matrix is None:  # fewer rows than features: the same, of a smaller matrix
        x = _with_ones(np.concatenate(held)) * scale
        found = x.T @ np.linalg.solve(x @ x.T + penalty * np.eye(len(x)), _with_ones(offsets) @ whitened)
    else:
        matrix *= scale
        matrix *= scale[:, None]
        matrix[np.diag_indices_from(matrix)] += penalty
        found = np.linalg.solve(matrix, products * scale[:, None] @ whitened)
    found = found @ (axes * spread) @ axes.T
    return np.float32(found[:-1] * scale[:-1, None]), np.float32(found[-1] + mean)


def _with_ones(rows):
    return np.insert(np.float64(rows), rows.shape[1], 1.0, axis=1)
