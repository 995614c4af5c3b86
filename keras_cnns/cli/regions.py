"""What commands share for networks that look at regions that are given."""

from keras_cnns.errors import InputError


def arguments(parser):
    parser.add_argument("--proposals", metavar="METHOD", help=(
        "regions, for R-CNN, SPP-net and Fast R-CNN: selective_search, selective_search_quality, edge_boxes:MODEL, "
        "edge_boxes_of_gradients, or a file .npz or .mat of boxes"))
    parser.add_argument("--proposals-cache", metavar="FOLDER", default="runs/proposals",
                        help="keeps them of each image; default runs/proposals")


def check(option, value, name):
    """Raises InputError where an option has a value, but the network called `name` is given no regions."""
    if value is not None and most(name) is None:
        raise InputError(f"{option} is for R-CNN, SPP-net and Fast R-CNN; {name} is given no regions.")


def most(name):
    """How many proposals of an image the network takes, or None."""
    from keras_cnns.models import module_of

    found = getattr(module_of(name).VARIANTS[name], "proposals", None)
    return found if isinstance(found, int) else None


def proposed(options, name, samples):
    """The samples with the proposals asked for, as many as the network called `name` takes."""
    from keras_cnns.data import proposals

    check("--proposals", options.proposals, name)
    if options.proposals is None:
        return samples
    return proposals.with_proposals(samples, options.proposals, options.proposals_cache, most(name))
