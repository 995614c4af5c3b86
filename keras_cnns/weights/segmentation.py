"""What torchvision calls the layers of our segmentation networks: `STATE_DICTS`, in the form of `names.STATE_DICTS`."""

from keras_cnns.weights import names

FCN_RESNET = {
    "(conv.+)": lambda layer: f"backbone.{names.find(names.RESNET, layer)}",
    "head_conv": "classifier.0", "head_bn": "classifier.1", "score_fr": "classifier.4",
    "aux1_head_conv": "aux_classifier.0", "aux1_head_bn": "aux_classifier.1", "aux1_score_fr": "aux_classifier.4"}
HEAD = tuple(f"{prefix}{layer}" for prefix in ("", "aux1_") for layer in ("head_conv", "head_bn", "score_fr"))
CLASSIFIERS = ("score_fr", "aux1_score_fr")

STATE_DICTS = {
    "fcn_resnet50": names.Family(FCN_RESNET, names.TORCH, HEAD, ("aux_classifier.",), classifiers=CLASSIFIERS),
    "fcn_resnet50_aux": names.Family(FCN_RESNET, names.TORCH, HEAD, classifiers=CLASSIFIERS),
}
