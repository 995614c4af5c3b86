"""Other people's weights in our networks.

>>> report = transfer(create_model("resnet50_v1_5"), torchvision_state_dict)
>>> report = transfer(create_model("mobilenet_v1", num_classes=5), keras.applications.MobileNet(), new_head=True)
"""

from keras_cnns.weights.carry import Report, transfer

__all__ = ["Report", "transfer"]
