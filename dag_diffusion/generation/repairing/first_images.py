"""A pipeline that draws nothing but images of one colour is told by its first images, not after a whole pool.

float16 overflows, or a safety checker refuses the prompts: no seed mends that, and a pool may take days.
"""

from collections.abc import Iterable, Iterator

from dag_diffusion.data.images import is_of_one_colour
from dag_diffusion.generation.drawing.drawer import Drawn

FIRST = 10


def with_colours(pieces: Iterable[Drawn]) -> Iterator[Drawn]:
    """What is drawn, the first images held back until one of them has colours.

    Raises:
        ValueError: none of the first ``FIRST`` has.
    """
    held, rest = [], iter(pieces)
    for piece in rest:
        held.append(piece)
        if not all(is_of_one_colour(image) for _, image, _ in piece):
            break
        if (count := sum(map(len, held))) >= FIRST:
            raise ValueError(
                f"the first {count} images, such as {held[0][0][0].file_name}, came out of one colour; another "
                "precision (bfloat16 for float16), another prompt, or a pipeline without its safety checker may help"
            )
    yield from held
    yield from rest
