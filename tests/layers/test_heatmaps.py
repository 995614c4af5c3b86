import keras
import numpy as np

from keras_cnns.layers import DecodeHeatmaps, MirrorAverage
from keras_cnns.ops import heatmaps


def test_a_graph_of_both_lives_through_a_file(tmp_path):
    maps = keras.Input((4, 6, 3))
    graph = keras.Model(maps, DecodeHeatmaps(8)(MirrorAverage(((0, 1),))(maps, -maps)))
    graph.save(tmp_path / "graph.keras")
    again = keras.saving.load_model(tmp_path / "graph.keras")
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype("float32")
    want = heatmaps.decode(heatmaps.mirror_average(x, -x, ((0, 1),)), 8)
    np.testing.assert_allclose(again(x), want, rtol=1e-6)
