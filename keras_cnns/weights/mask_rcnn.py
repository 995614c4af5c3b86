"""What torchvision calls the layers of Mask R-CNN's branches; the others are Faster R-CNN's."""

from keras_cnns.weights import detectors, names


def masks(network, layers):
    """In files of torchvision before 0.13, its released one, the head's layers have names."""
    named = "roi_heads.mask_head.mask_fcn1" in layers
    return {
        r"mask_fcn(\d)": lambda i: f"roi_heads.mask_head.{f'mask_fcn{i}' if named else f'{int(i) - 1}.0'}",
        "conv5_mask": "roi_heads.mask_predictor.conv5_mask",
        "mask_fcn_logits": "roi_heads.mask_predictor.mask_fcn_logits",
        **detectors.pyramid(network, layers)}


def keypoints(network, layers):
    return {
        r"conv_fcn(\d)": lambda i: f"roi_heads.keypoint_head.{2 * int(i) - 2}",
        "kps_score_lowres": "roi_heads.keypoint_predictor.kps_score_lowres",
        **detectors.pyramid(network, layers)}


STATE_DICTS = {
    "mask_rcnn_resnet50_fpn": names.Family(
        masks, names.TORCH, (), classifiers=(*detectors.CLASSIFIERS, "mask_fcn_logits")),
    "keypoint_rcnn_resnet50_fpn": names.Family(keypoints, names.TORCH, (), classifiers=detectors.CLASSIFIERS),
}
