"""One device, or several of this machine as replicas of one network."""

import contextlib

import keras
import tensorflow as tf

from keras_cnns.errors import InputError


def strategy(devices=None):
    """The `tf.distribute` strategy for the devices named, e.g. ["GPU:0", "GPU:1"]; by default for every GPU.

    Where no device is named and there is not more than one GPU, no strategy is needed: None.
    """
    known = [d.name.removeprefix("/device:") for d in tf.config.list_logical_devices()]
    unknown = [d for d in devices or () if d not in known]
    if unknown:
        raise InputError(f"No device {', '.join(unknown)}. This machine has {', '.join(known)}.")
    if devices and len(devices) == 1:
        return tf.distribute.OneDeviceStrategy(devices[0])
    devices = devices or [d for d in known if d.startswith("GPU")]
    return tf.distribute.MirroredStrategy(devices) if len(devices) > 1 else None


def scope(strategy):
    """Where the network is made: the strategy's scope, or nothing in particular."""
    return strategy.scope() if strategy else contextlib.nullcontext()


def synchronize(network):
    """Lets every batch norm see the whole batch, so that the number of replicas changes nothing."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
        elif isinstance(layer, keras.Model):
            synchronize(layer)
