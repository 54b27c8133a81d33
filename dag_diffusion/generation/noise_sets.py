"""Noise chosen as a set: of many candidates for a group of images, the one that is most like its distribution.

    error(set) = |mean| + |std - 1| + SKEW |skew|,   seed of image i in candidate c = seed_after(seed_i, c)

A few independent draws of noise leave gaps that no single draw shows.  After D3HR (Zhao et al., ICML 2025, arXiv
2505.18399), which draws from a Gaussian that was fitted to the inverted real latents of the class; here it is the
standard one that denoising begins with.  Mean and deviation are those of each element over the images of the set,
skewness that of each image over its elements.  What is chosen are seeds, so that an image is drawn again from its row.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dag_diffusion.processes import fail_together, gather, this_process
from dag_diffusion.progress import Progress, Stage

from .plan import ImageJob, seed_after

SKEW = 10.0  # of the authors' function for one set; their batched one has 0.1, which leaves skewness nearly out
BLOCK = 64  # candidates whose noise is held in memory at once


def irregularities(noise: Tensor) -> dict[str, Tensor]:
    """Terms of the error of sets of noise, each ``(sets,)`` float64.

    Args:
        noise: ``(sets, images, ...)`` with two images or more.
    """
    values = noise.double().flatten(2)
    centred = values - values.mean(2, keepdim=True)
    skew = (centred**3).mean(2) / (centred**2).mean(2) ** 1.5  # (sets, images)
    return {
        "mean": values.mean(1).norm(dim=1),
        "deviation": (values.std(1) - 1).norm(dim=1),
        "skew": SKEW * skew.norm(dim=1),
    }


def irregularity(noise: Tensor) -> Tensor:
    """How far sets of noise are from standard normal ones, ``(sets,)``; 0 is never reached.  See ``irregularities``."""
    return torch.stack(list(irregularities(noise).values())).sum(0)


def best_candidate(seeds: Sequence[int], candidates: int, noise_of: Callable[[int], Tensor]) -> int:
    """Which of the candidates for one group is the most regular.

    Args:
        seeds: of the images of the group, as planned; those of candidate 0.
        noise_of: the initial noise of an image from its seed.
    """
    errors = []
    for start in range(0, candidates, BLOCK):
        block = range(start, min(start + BLOCK, candidates))
        errors.append(
            irregularity(torch.stack([torch.stack([noise_of(seed_after(s, c)) for s in seeds]) for c in block]))
        )
    return int(torch.cat(errors).argmin())


def candidate_of(jobs: Sequence[ImageJob], candidates: int, drawn: Mapping[str, int]) -> int | None:
    """Which candidate the images of one group that are there were drawn with; None if none of them tells.

    Args:
        drawn: file name to seed of images that were not drawn again, whose seeds are those of other candidates.
    """
    for job in jobs:
        seed = drawn.get(job.file_name)
        for candidate in range(candidates) if seed is not None else ():
            if seed_after(job.seed, candidate) == seed:
                return candidate
    return None


def with_chosen_noise(
    jobs: Sequence[ImageJob],
    candidates: int,
    noise_of: Callable[[int], Tensor],
    progress: Progress | None = None,
    *,
    drawn: Mapping[str, int] | None = None,
) -> list[ImageJob]:
    """The images of a plan with the seeds of the best candidate of their group; each process looks at its share.

    Args:
        candidates: sets to choose among; with 1, and in groups of one image, seeds stay as they are.
        drawn: as of ``candidate_of``; groups that it tells need not be chosen anew, which takes seconds for each.
        progress: is told the groups that this process has looked at.
    """
    groups: dict[tuple[int, int | None], list[int]] = defaultdict(list)
    for place, job in enumerate(jobs):
        groups[job.label, job.group].append(place)
    several = [places for places in groups.values() if len(places) > 1] if candidates > 1 else []
    if not several:
        return list(jobs)
    state, chosen = this_process(), list(jobs)
    own = several[state.process_index :: state.num_processes]
    with fail_together():
        tell, found = Stage("noise sets", len(own), progress), []
        for places in own:
            group = [jobs[place] for place in places]
            known = candidate_of(group, candidates, drawn or {})
            best = best_candidate([job.seed for job in group], candidates, noise_of) if known is None else known
            found.append((places, best))
            tell()
    for places, candidate in (pair for pairs in gather(found) for pair in pairs):
        for place in places:
            chosen[place] = replace(jobs[place], seed=seed_after(jobs[place].seed, candidate))
    return chosen
