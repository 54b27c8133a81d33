"""The learning rate over a run: a linear rise, then half a cosine to zero, known from the step alone."""

import math


def rate_factor(step: int, steps: int, warm_up: float) -> float:
    """What the peak rate is multiplied by, in (0, 1].

    Args:
        step: 0 for the first of ``steps``.
        warm_up: share of the steps in which the rate rises, in [0, 1); at least the first step reaches the peak.
    """
    rising = max(1, round(warm_up * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising + 1) / (steps - rising + 1)))
