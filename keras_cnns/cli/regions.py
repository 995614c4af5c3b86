"""What commands share for networks that look at regions that are given."""

from keras_cnns.errors import InputError


def arguments(parser):
    parser.add_argument("--proposals", metavar="METHOD", help=(
        "regions, for R-CNN, SPP-net and Fast R-CNN: selective_search, selective_search_quality, edge_boxes:MODEL, "
        "edge_boxes_of_gradients, or a file .npz or .mat of boxes"))
    parser.add_argument("--proposals-cache", metavar="FOLDER", default="runs/proposals",
                        help="keeps them of each image; default runs/proposals")


def proposed(options, name, samples):
    """The samples with the proposals asked for, as many as the network called `name` takes."""
    from keras_cnns.data import proposals
    from keras_cnns.models import module_of

    if options.proposals is None:
        return samples
    most = getattr(module_of(name).VARIANTS[name], "proposals", None)
    if not isinstance(most, int):
        raise InputError(f"--proposals is for R-CNN, SPP-net and Fast R-CNN; {name} finds its regions itself.")
    return proposals.with_proposals(samples, options.proposals, options.proposals_cache, most)
