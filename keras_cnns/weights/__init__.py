"""Other people's weights in our networks.

>>> network = create_model("resnet50", weights="imagenet")
>>> report = transfer(create_model("resnet50_v1_5"), torchvision_state_dict)
>>> report = transfer(create_model("mobilenet_v1", num_classes=5), keras.applications.MobileNet(), new_head=True)
>>> report = transfer(create_model("alexnet"), read("bvlc_alexnet.caffemodel"))
"""

from keras_cnns.weights.carry import Report, transfer
from keras_cnns.weights.files import read
from keras_cnns.weights.releases import RELEASES, Release, class_names
from keras_cnns.weights.zoo import create_model, model_info

__all__ = ["RELEASES", "Release", "Report", "class_names", "create_model", "model_info", "read", "transfer"]
