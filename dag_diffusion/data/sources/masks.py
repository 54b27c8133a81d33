"""Masks of segmentation among images, told by their names: ``benign (1)_mask.png`` beside ``benign (1).png``."""

import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dag_diffusion.data.rows import METADATA

logger = logging.getLogger(__name__)
MASK = re.compile(r"[-_ ](masks?|gt|segm?|segmentation)([-_ ]?[0-9]+)?\.[^./]+$", re.I)
DOUBTFUL = ("gt", "seg")  # which names have that are of no masks


def masks_among(names: Sequence[str]) -> dict[str, str]:
    """Masks to the images beside which they lie, by their names.

    None of a folder that is called as masks are, such as ``with_mask``: there they are what the images show.  Nor
    ``ford_gt`` beside ``ford``, unless at least half of the images in the folder have such a partner.
    """
    called = [(name, end) for name in names if (end := MASK.search(name))]
    called = [(name, end) for name, end in called if "mask" not in os.path.dirname(name).casefold()]
    if not called:
        return {}
    stems = {os.path.splitext(name)[0].casefold(): name for name in names}
    masks = {name: stems[image] for name, end in called if (image := name[: end.start()].casefold()) in stems}
    doubtful = [name for name, end in called if name in masks and end[1].casefold() in DOUBTFUL]
    if doubtful:
        paired = Counter(map(os.path.dirname, {*masks.values()}))
        others = Counter(os.path.dirname(name) for name in names if name not in masks)
    for name in doubtful:
        if 2 * paired[os.path.dirname(name)] < others[os.path.dirname(name)]:
            del masks[name]
    return masks


def without_masks(path: Path, images: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Images, given as class and file name, without the masks among them, which a warning tells."""
    masks = masks_among([file for _, file in images])
    if masks:
        mask, image = min(masks.items())
        logger.warning(
            "%d images in %s, such as %s beside %s, are taken for masks and left out; list them with the others in %s "
            "if they are of the data",
            len(masks), path, mask, image, path / METADATA,
        )  # fmt: skip
    return [pair for pair in images if pair[1] not in masks]
