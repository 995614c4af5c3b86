"""What torchvision calls the layers of the detectors that are its own: `STATE_DICTS`, in the form of `names`."""

from keras_cnns.weights import names


def pyramid(network, layers):
    """ResNet with FPN and RPN. In files of torchvision before 0.13, its released ones, some layers are less deep."""
    deep, deeper = ("", "") if "rpn.head.conv" in layers else (".0", ".0.0")
    return {
        "(conv.+)": lambda layer: f"backbone.body.{names.find(names.RESNET, layer)}",
        r"lateral(\d)": lambda i: f"backbone.fpn.inner_blocks.{int(i) - 2}{deep}",
        r"P(\d)": lambda i: f"backbone.fpn.layer_blocks.{int(i) - 2}{deep}",
        "rpn_conv": f"rpn.head.conv{deeper}", "rpn_cls": "rpn.head.cls_logits", "rpn_reg": "rpn.head.bbox_pred",
        "fc6": "roi_heads.box_head.fc6", "fc7": "roi_heads.box_head.fc7",
        "cls_score": "roi_heads.box_predictor.cls_score", "bbox_pred": "roi_heads.box_predictor.bbox_pred"}


CLASSIFIERS = ("cls_score", "bbox_pred")
STATE_DICTS = {
    "faster_rcnn_resnet50_fpn": names.Family(
        pyramid, names.TORCH, (), maker="fasterrcnn_resnet50_fpn", classifiers=CLASSIFIERS),
}
