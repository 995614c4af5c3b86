"""Feature Pyramid Networks for Object Detection.

Lin, Dollar, Girshick, He, Hariharan, Belongie. CVPR 2017, arXiv:1612.03144. Lateral connections and the
top-down path: section 3, Fig. 3; P6 by subsampling P5: a footnote of section 4.1. "P2" is of stride 4, "P6" of 64.
"""

from keras import layers


def pyramid(maps, finest=2, width=256):
    """`[C2, C3, ...]`, finest first, `-> [P2, P3, ..., P6]`, each `[B, H_l, W_l, width]`, one coarser than given.

    Each map's sides are twice the next one's; the first one's stride is `2**finest`.
    """
    lateral = [layers.Conv2D(width, 1, name=f"lateral{i}")(c) for i, c in enumerate(maps, finest)]
    top_down = lateral[-1:]
    for i, fine in reversed(list(enumerate(lateral[:-1], finest))):
        x = layers.UpSampling2D(2, name=f"up{i}")(top_down[0])
        top_down.insert(0, layers.Add(name=f"merge{i}")([fine, x]))
    outputs = [layers.Conv2D(width, 3, padding="same", name=f"P{i}")(x) for i, x in enumerate(top_down, finest)]
    coarsest = len(maps) + finest
    return [*outputs, layers.MaxPooling2D(1, 2, name=f"P{coarsest}")(outputs[-1])]
