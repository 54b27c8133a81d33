"""Every record in benchmarks/results as a Markdown table, so that text and record cannot disagree.

    python benchmarks/tables.py                  # all tables
    python benchmarks/tables.py guidance-main    # one of them
    python benchmarks/tables.py > benchmarks/results/README.md    # after a record has changed

docs/hooks.py puts a table where a page says ``<!-- results: NAME -->``.  Below each table stands its command.
The README of the records is for readers on GitHub, where no hook runs.
"""

import sys
from collections.abc import Callable, Iterable
from functools import partial

from result_tables import (
    auto_targets,
    clip_art,
    generated_pools,
    guided_images,
    labels,
    redundant_sets,
    sampled_pools,
    times,
    trained_models,
    trained_sets,
)

TABLES: dict[str, Callable[[], str]] = {
    "training by size": trained_sets.by_size,
    "training by size, held out": partial(trained_sets.by_size, trained_sets.SIZES_HELD_OUT),
    "training by size, autoguidance": partial(trained_sets.by_size, trained_sets.SIZES_TODAY),
    "training, other sizes": trained_sets.sizes,
    "training, other networks": trained_sets.networks,
    "training, classic": trained_sets.classic,
    "training, pairs of sets": trained_sets.pairs,
    **{
        f"downstream-{name}": partial(trained_sets.study, name)
        for name in (
            "10-quick",
            "10-hard-label",
            "rules-10-quick",
            "rules-50-quick",
            "noise-10",
            "modes-10",
            "tune-10",
            "digits-10-quick",
            "emoji-10-quick",
        )
    },
    "downstream-modes-scale-held-out-50-quick": partial(
        trained_sets.study, "modes-scale-held-out-50-quick", baseline="easiest of 5 | drawn to modes"
    ),
    "downstream-clipart-draws": clip_art.draws,
    "downstream-candidates-10": partial(trained_sets.study, "candidates-10", baseline="easiest of 5"),
    "downstream-soft-10": partial(trained_sets.study, "soft-10"),
    "downstream-soft-50": partial(trained_sets.study, "soft-50"),
    "downstream-learnable-10": partial(trained_sets.study, "learnable-10", baseline="easiest"),
    "downstream-learnable-test-10": partial(trained_sets.study, "learnable-test-10"),
    "downstream-learnable-merged-10": partial(trained_sets.study, "learnable-merged-10", baseline="easiest"),
    "downstream-learnable-merged-test-10": partial(trained_sets.study, "learnable-merged-test-10"),
    "downstream-learnable-test-50": partial(trained_sets.study, "learnable-test-50"),
    **{
        f"downstream-learnable-test-{network}-10": partial(
            trained_sets.study, f"learnable-test-{network}-10", network=network
        )
        for network in ("resnet-18", "resnet-ap-10")
    },
    "downstream-digits-rounds": partial(trained_sets.study, "digits-rounds-10-quick"),
    "training by size, learnable": partial(trained_sets.by_size, trained_sets.ROUNDS, baseline="easiest"),
    "downstream-intervals-10": partial(trained_sets.study, "intervals-10", baseline="embedded, CFG 1.5"),
    "downstream-intervals-50": partial(trained_sets.study, "intervals-50", baseline="embedded, CFG 1.5"),
    "downstream-autoguidance-10-quick-resnet-18": partial(
        trained_sets.study, "autoguidance-10-quick-resnet-18", network="resnet-18"
    ),
    "downstream-held-out-10-quick-resnet-18": partial(
        trained_sets.study, "held-out-10-quick-resnet-18", network="resnet-18"
    ),
    "downstream-autoguidance-10": partial(trained_sets.study, "autoguidance-10", baseline="embedded, CFG 1.5"),
    "downstream-autoguidance-50": partial(trained_sets.study, "autoguidance-50", baseline="embedded, CFG 1"),
    **{
        f"downstream-autoguidance-{size}-quick": partial(
            trained_sets.study, f"autoguidance-{size}-quick", baseline=trained_sets.BEST
        )
        for size in ("10", "50", "held-out-10", "held-out-50")
    },
    "downstream-generators-50": partial(trained_sets.study, "generators-50", baseline="embedded, CFG 1.5"),
    "downstream-samplers-50": partial(trained_sets.study, "samplers-50", baseline="embedded, CFG 1, DDIM, 20 steps"),
    **{
        f"downstream-solver-{size}-quick": partial(trained_sets.study, f"solver-{size}-quick")
        for size in ("held-out-10", "10", "50")
    },
    **{
        f"downstream-half-{size}-quick": partial(trained_sets.study, f"half-{size}-quick")
        for size in ("held-out-10", "10", "50")
    },
    "downstream-scratch-50": partial(trained_sets.study, "scratch-50", baseline="embedded, CFG 1.5"),
    "decoder": trained_models.decoders,
    "downstream-decoder-50": partial(trained_sets.study, "decoder-50", baseline="embedded, CFG 2, 0.25 to 0.75"),
    "embedded-quality-quick": partial(trained_sets.quality, "quick"),
    "embedded-quality-classic": partial(trained_sets.quality, "classic"),
    "guidance-main": partial(guided_images.methods, "main"),
    "guidance-options": partial(guided_images.methods, "options"),
    "guidance-fast": partial(guided_images.methods, "fast"),
    "guidance-main, by target": guided_images.by_target,
    "autoguidance-control": guided_images.under_autoguidance,
    "guidance-cost, parts": guided_images.flop,
    "guidance-cost, forms": guided_images.counted_cost,
    "dit-xl, forms of guidance": guided_images.timed_cost,
    "dit-xl, batches": generated_pools.on_gpu,
    "any-pipeline-control": guided_images.any_pipeline,
    "any-pipeline-seeds": guided_images.any_pipeline_seeds,
    "any-pipeline-overhead": guided_images.any_pipeline_overhead,
    "subsampling-match": sampled_pools.distances,
    "subsampling-downstream-10": partial(sampled_pools.rules_in_training, 10),
    "subsampling-downstream-50": partial(sampled_pools.rules_in_training, 50),
    "subsampling-speed, thresholds": sampled_pools.searches,
    "subsampling-speed, million": sampled_pools.million,
    "auto-target": auto_targets.by_size,
    "auto-target, conditions": auto_targets.conditions,
    "auto-target, left out": auto_targets.left_out,
    "among": sampled_pools.among,
    "scoring": sampled_pools.scoring,
    "scoring, processes": sampled_pools.scoring_processes,
    "generation-loop": generated_pools.loop,
    "generation-processes": generated_pools.processes,
    "generation-networks": partial(
        generated_pools.rates_in_turn, "generation-networks", "networks, classifier-free guidance"
    ),
    "generation-guidances": partial(generated_pools.rates_in_turn, "generation-guidances", "guidance"),
    "generation-options": generated_pools.generation_options,
    "generation-same": generated_pools.same_pixels,
    "generation-overhead": generated_pools.overhead,
    "noise-sets": generated_pools.made_as_a_set,
    "noise-candidates": generated_pools.noise_candidates,
    "autoguidance-images": partial(trained_models.generators, "autoguidance-images"),
    "generators-images": partial(trained_models.generators, "generators-images"),
    "samplers-images": partial(trained_models.generators, "samplers-images"),
    "solver-images": partial(trained_models.generators, "solver-images"),
    "scratch-images": partial(trained_models.generators, "scratch-images"),
    "intervals-images": partial(trained_models.generators, "intervals-images"),
    "training-speed": trained_models.training_speed,
    "training-loss": trained_models.training_loss,
    "training-memory": trained_models.training_memory,
    "training-peaks": trained_models.training_peaks,
    "training-kills": trained_models.training_kills,
    "autoencoders": trained_models.autoencoders,
    "soft-labels-sizes": labels.soft_labels_sizes,
    "soft-labels-train": labels.soft_labels_train,
    "speed": times.speed,
    "startup": times.startup,
    "memory": times.memory,
    "memory-preparing": times.memory_preparing,
    "profile-run": times.profile_run,
    "profile-pool": times.profile_pool,
    "profile-training": partial(times.profile_training, "training"),
    "profile-training, tests": partial(times.profile_training, "testing"),
    "profile-probe": times.profile_probe,
    "scaling, hours": generated_pools.imagenet,
    "scaling, storage": generated_pools.storage,
    "classifiers": trained_models.classifiers,
    "clipart": partial(clip_art.accuracies, "clipart", "results"),
    "clipart, more seeds": clip_art.more_seeds,
    "clipart, half the steps": partial(clip_art.accuracies, "clipart-half", "repeated"),
    "clipart, by autoencoder": clip_art.by_autoencoder,
    "clipart, minutes": clip_art.minutes,
    "clipart, images": clip_art.images,
    "redundancy-sets": redundant_sets.sets,
    "redundancy-repair": redundant_sets.repair,
    "redundancy-near": redundant_sets.near_copies,
}


def rendered(name: str) -> str:
    """One table with the line that says where it is from."""
    if name not in TABLES:
        raise ValueError(f"no table is called {name!r}; write one of: {', '.join(TABLES)}")
    return TABLES[name]()


def page(names: Iterable[str] = TABLES) -> str:
    """Tables under headings."""
    made = "Made by `python benchmarks/tables.py > benchmarks/results/README.md`; not edited by hand."
    return "\n\n".join(["# Every record as a table", made, *(f"## {name}\n\n{rendered(name)}" for name in names)])


if __name__ == "__main__":
    print(page(sys.argv[1:] or TABLES))
