"""Modes: every class gets its own, of its own images; quotas by difficulty hold; the shift points and ends well."""

import dataclasses

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from tiny import tiny_pipeline, tiny_vae, write_images

from dag_diffusion.data.images import UnreadableImageError
from dag_diffusion.data.pools import digest_of_images, read_pool
from dag_diffusion.generation.modes import Modes, allot
from dag_diffusion.generation.preparing import mode_search
from dag_diffusion.generation.preparing.kept_parts import kept_parts
from dag_diffusion.generation.preparing.mode_search import (
    encode,
    encode_pool,
    find_difficulty_modes,
    find_modes,
    find_pool_modes,
)
from dag_diffusion.guidance.mode_guidance import WINDOWS, ModeGuidance, mode_shift
from dag_diffusion.latent_spaces import LatentSpace
from dag_diffusion.pipelines.latents import unscaled
from dag_diffusion.sampling.scales import BINS
from dag_diffusion.sampling.targets import PRESETS, PerClass, TargetDistribution
from dag_diffusion.sampling.threshold_search import searched_scale

NAMES = {3: "T-shirt", 7: "Ankle boot, boot"}
seeds = st.integers(0, 1000)


def real(counts: dict[int, int], seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Latents and shuffled labels."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(list(counts), list(counts.values())))
    return torch.from_numpy(generator.normal(size=(len(labels), 2, 4, 4))).float(), labels


def graded(count: int, seed: int = 0) -> np.ndarray:
    """Difficulties of real images: mostly easy, all different."""
    return 1 / (1 + np.exp(-np.random.default_rng(seed).normal(-3, 2, count)))


def strata_of(values: np.ndarray) -> np.ndarray:
    return searched_scale(values).bins(values)


def modes_in_strata(modes: Modes, values: np.ndarray) -> np.ndarray:
    """Modes in each stratum of a class, by the images that are nearest in difficulty."""
    nearest = np.abs(modes.difficulties.numpy()[:, None] - values).argmin(1)
    return np.bincount(strata_of(values)[nearest], minlength=BINS)


def modes_of_sizes(sizes: list[int]) -> Modes:
    count = len(sizes) + 1  # one mode of another class, which no image of this one may be drawn to
    return Modes(torch.zeros(count, 1, 2, 2), torch.tensor([7] + [3] * len(sizes)), torch.tensor([9, *sizes]), NAMES)


def same(first: Modes, second: Modes) -> bool:
    names = [f.name for f in dataclasses.fields(Modes)]
    pairs = [(getattr(first, name), getattr(second, name)) for name in names]
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


@pytest.mark.parametrize(
    ("name", "first", "last"), [("mgd3", 49, 26), ("igd", 45, 30), ("lgd", 45, 10)], ids=list(WINDOWS)
)
def test_published_windows_are_those_of_the_papers_own_indices(name, first, last):
    start, stop = WINDOWS[name]
    steps = ModeGuidance(start=start, stop=stop).steps(50)
    assert [49 - step for step in steps] == list(range(first, last - 1, -1))


def test_default_window_is_the_first_half():
    assert ModeGuidance().steps(20) == range(10)


@given(st.integers(1, 1000))
def test_usual_pull_adds_up_alike_in_any_number_of_steps(num_steps):
    assert ModeGuidance().scale_at(num_steps) == pytest.approx(0.2 * (20 / num_steps) ** 0.5)
    assert ModeGuidance(scale=0.1).scale_at(num_steps) == 0.1


def test_window_without_a_step_is_refused_rather_than_ignored():
    with pytest.raises(ValueError, match="none of 1 steps"):
        ModeGuidance().steps(1)


@pytest.mark.parametrize("options", [{"start": 0.5}, {"stop": 1.1}, {"scale": 0}, {"scale": float("nan")}])
def test_impossible_configuration_is_refused(options):
    with pytest.raises(ValueError, match="mode guidance needs"):
        ModeGuidance(**options)


@given(seeds, st.floats(0.001, 0.98), st.floats(0.001, 0.01), st.floats(0.01, 0.5))
def test_shift_points_from_the_clean_sample_to_its_mode(seed, alpha, gain, scale):
    clean, modes = torch.randn(2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(seed))
    shift = mode_shift(clean, modes, alpha, alpha + gain, scale)
    length = shift.norm() / (modes - clean).norm()
    assert 0 < length < scale
    assert torch.allclose(shift, length * (modes - clean), atol=1e-5)


@given(seeds, st.floats(0.001, 0.98), st.floats(0.001, 0.01), st.floats(1, 1e6))
def test_shift_is_never_longer_than_the_noise_that_is_left(seed, alpha, gain, distance):
    clean, modes = torch.randn(2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(seed))
    shift = mode_shift(clean * distance, modes, alpha, alpha + gain, 1.0)
    noise = (1 - alpha - gain) ** 0.5 * clean[0].numel() ** 0.5
    assert (shift.flatten(1).norm(dim=1) <= noise * 1.0001).all()


@pytest.mark.parametrize("step", [1, 100, 500, 999])
def test_shift_is_measured_in_the_deviations_that_ddpm_draws(step):
    scheduler = DDPMScheduler(variance_type="fixed_small")
    rates = scheduler.alphas_cumprod
    shift = mode_shift(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1), rates[step], rates[step - 1], 1.0)
    assert shift.item() == pytest.approx(scheduler._get_variance(step).sqrt().item(), rel=1e-2)


@given(st.floats(0, 1))
def test_last_step_is_not_shifted(alpha):
    shift = mode_shift(torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2), alpha, 1.0, 0.1)
    assert torch.equal(shift, torch.zeros(2, 1, 2, 2))


@given(st.floats(0, 1), st.floats(0, 1))
def test_shift_is_finite_whatever_the_schedule_or_a_broken_prediction(alpha, alpha_next):
    clean = torch.tensor([0.0, float("inf"), float("nan"), 1e30]).reshape(4, 1, 1, 1)
    shift = mode_shift(clean, torch.ones_like(clean), torch.tensor(alpha), alpha_next, 0.1)
    assert torch.isfinite(shift).all()


def test_shift_of_half_precision_is_computed_in_float32():
    clean = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float16)
    shift = mode_shift(clean, clean.double() + 1e-6, 0.3, 0.4, 0.1)
    assert shift.dtype == torch.float32
    assert shift.item() > 0


def test_encoded_images_are_the_scaled_mean_whatever_the_batch():
    vae, images = tiny_vae(), torch.rand(5, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = vae.encode(images * 2 - 1).latent_dist.mode() * vae.config.scaling_factor
    latents = encode(vae, images, batch_size=2)
    assert torch.allclose(latents, expected, atol=1e-6)
    assert not latents.requires_grad


@pytest.mark.parametrize("images", [torch.rand(2, 3, 16, 16), torch.zeros(2, 1, 16, 16, dtype=torch.uint8)])
def test_images_that_the_vae_would_misread_are_refused(images):
    with pytest.raises(ValueError, match="float images in"):
        encode(tiny_vae(), images)


@pytest.mark.parametrize("changes", [{"shift_factor": 0.5}, {"latents_mean": [0.5] * 4, "latents_std": [2.0] * 4}])
def test_modes_are_what_the_loop_of_the_pipeline_has_whose_vae_has_a_shift(tmp_path, changes):
    write_images(tmp_path, {"Bag": 3})
    real, vae = read_pool(tmp_path), tiny_vae(scaling_factor=1.5, **changes)
    ours = find_pool_modes(tiny_pipeline(vae=vae), real, 3)
    images = ours.centres / 1.5  # as the pipeline hands them to its decoder
    expected = find_pool_modes(tiny_pipeline(vae=tiny_vae(scaling_factor=1.0)), real, 3).centres
    torch.testing.assert_close(images, expected)
    others = find_pool_modes(LatentSpace(vae, (16, 16), None, {}), real, 3).centres
    torch.testing.assert_close(unscaled(others, vae.config), expected)


def test_images_that_modes_are_of_are_told_by_one_reading_before_they_are_encoded(tmp_path, monkeypatch):
    write_images(tmp_path / "real", {"Bag": 3})
    pool, read = read_pool(tmp_path / "real"), []
    monkeypatch.setattr(mode_search, "digest_of_images", lambda pool: read.append(pool) or digest_of_images(pool))
    before = digest_of_images(pool)

    def exchange(*told):
        for file in (tmp_path / "real" / "Bag").iterdir():
            Image.new("L", (16, 16)).save(file)

    with kept_parts(tmp_path / "modes") as kept:
        modes = find_pool_modes(tiny_pipeline(), pool, 3, kept=kept, progress=exchange)
    assert modes.images == before != digest_of_images(pool)
    assert read == [pool]


def test_pool_is_encoded_in_the_order_of_its_rows(tmp_path):
    write_images(tmp_path, {"Bag": 3, "Hat": 2})
    pool, done = read_pool(tmp_path), []
    images = torch.stack([torch.from_numpy(np.array(pool.open(i)))[None] for i in range(5)]) / 255
    latents = encode_pool(tiny_vae(), pool, size=16, batch_size=2, progress=lambda *told: done.append(told))
    assert torch.allclose(latents, encode(tiny_vae(), images), atol=1e-6)
    assert done == [("images", count, 5) for count in (0, 2, 4, 5)]


def test_colour_images_of_any_size_are_fitted_to_the_vae(tmp_path):
    (tmp_path / "Bag").mkdir()
    for index, size in enumerate([(16, 16), (40, 24), (9, 30)]):
        Image.new("RGB", size, "red").save(tmp_path / "Bag" / f"{index}.png")
    first, *others = encode_pool(tiny_vae(), read_pool(tmp_path), size=16)
    assert all(torch.allclose(first, other, atol=1e-5) for other in others)


def test_unreadable_image_is_named(tmp_path):
    write_images(tmp_path, {"Bag": 2})
    (tmp_path / "Bag" / "00001.png").write_text("no image")
    with pytest.raises(UnreadableImageError, match=r"00001\.png"):
        encode_pool(tiny_vae(), read_pool(tmp_path), size=16)


def test_modes_are_the_same_bytes_each_time_they_are_saved(tmp_path):
    modes = modes_of_sizes([3, 2])
    for number in range(4):
        modes.save(tmp_path / f"{number}.safetensors")
    assert len({file.read_bytes() for file in tmp_path.iterdir()}) == 1
    assert same(Modes.load(tmp_path / "0.safetensors"), modes)


@settings(max_examples=15)
@given(st.integers(1, 6), st.integers(6, 25), st.sampled_from([1, 2, 4]), seeds)
def test_every_class_gets_its_number_of_modes_holding_all_its_images(per_class, count, average, seed):
    latents, labels = real({3: count, 7: 6}, seed)
    modes = find_modes(latents, labels, per_class, class_names=NAMES, average=average, seed=seed)
    assert modes.labels.tolist() == [3] * per_class + [7] * per_class
    assert (modes.sizes > 0).all()
    assert [modes.sizes[modes.of_class(label)].sum() for label in (3, 7)] == [count, 6]


@settings(max_examples=15)
@given(st.integers(1, 6), st.sampled_from([1, 2]), seeds)
def test_modes_weighed_by_size_average_to_the_raw_images_of_the_class(per_class, average, seed):
    latents, labels = real({3: 20, 7: 6}, seed)
    modes = find_modes(latents, labels, per_class, class_names=NAMES, average=average, seed=seed)
    own = modes.of_class(3)
    total = (modes.centres[own] * modes.sizes[own, None, None, None]).sum(0)
    assert torch.allclose(total / 20, latents[labels == 3].mean(0), atol=1e-5)


@pytest.mark.parametrize("average", [1, 2])
def test_centres_are_the_raw_means_of_clusters_that_lie_apart(average):
    latents, labels = real({3: 30})
    group = np.arange(30) % 3
    latents = latents + 100 * torch.from_numpy(group).float().view(-1, 1, 1, 1)
    modes = find_modes(latents, labels, 3, class_names=NAMES, average=average)
    expected = torch.stack([latents[group == number].mean(0) for number in range(3)])
    found = modes.centres[modes.centres.mean((1, 2, 3)).argsort()]
    assert torch.allclose(found, expected, atol=1e-4)


def test_as_many_modes_as_images_are_the_images():
    latents, labels = real({3: 8})
    modes = find_modes(latents, labels, 8, class_names=NAMES)
    distances = torch.cdist(modes.centres.flatten(1), latents.flatten(1))
    assert sorted(distances.argmin(1).tolist()) == list(range(8))


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_equal_images_still_make_filled_modes():
    modes = find_modes(torch.ones(5, 1, 2, 2), [3] * 5, 4, class_names=NAMES)
    assert sorted(modes.sizes.tolist()) == [1, 1, 1, 2]
    assert torch.equal(modes.centres, torch.ones(4, 1, 2, 2))


def test_same_seed_gives_the_same_modes_and_classes_do_not_change_each_other():
    latents, labels = real({3: 30, 7: 30})
    both, again = (find_modes(latents, labels, 5, class_names=NAMES, seed=4) for _ in range(2))
    alone = find_modes(latents[labels == 7], labels[labels == 7], 5, class_names=NAMES, seed=4)
    other = find_modes(latents, labels, 5, class_names=NAMES, seed=5)
    assert same(both, again)
    assert torch.equal(both.centres[both.of_class(7)], alone.centres)
    assert alone.class_names == {7: NAMES[7]}
    assert not torch.equal(both.centres, other.centres)


@settings(max_examples=15)
@given(st.sampled_from(sorted(PRESETS)), st.integers(1, 20), seeds)
def test_strata_hold_the_quotas_of_a_preset_where_images_suffice(preset, per_class, seed):
    values, target = graded(150, seed), TargetDistribution.preset(preset)
    quotas = target.quotas("T-shirt", per_class, searched_scale(values))
    assume((np.bincount(strata_of(values), minlength=BINS) >= quotas).all())
    latents, labels = real({3: len(values)})
    modes = find_difficulty_modes(latents, labels, values, per_class, target, class_names=NAMES)
    assert modes_in_strata(modes, values).tolist() == quotas.tolist()


def test_modes_lie_within_their_stratum_easiest_first():
    values, target = graded(150), TargetDistribution.preset("ground")
    latents, labels = real({3: len(values)})
    modes = find_difficulty_modes(latents, labels, values, 20, target, class_names=NAMES)
    for stratum, found in enumerate(modes.difficulties.numpy().reshape(BINS, 2)):
        own = values[strata_of(values) == stratum]
        assert own.min() * 0.9999 <= found.min()
        assert found.max() <= own.max() * 1.0001


@settings(max_examples=15)
@given(st.integers(1, 40), seeds)
def test_modes_are_shared_out_as_a_reference_of_the_same_images_lies(per_class, seed):
    values = graded(40, seed)
    latents, labels = real({3: 40}, seed)
    target = TargetDistribution.from_reference({"T-shirt": values})
    modes = find_difficulty_modes(latents, labels, values, per_class, target, class_names=NAMES)
    shares = np.bincount(strata_of(values), minlength=BINS) / 40
    assert (np.abs(modes_in_strata(modes, values) - shares * per_class) < 1 + 1e-9).all()


def test_strata_of_a_reference_are_its_own_whatever_the_images():
    values = np.array([0.002, 0.003, 0.5, 0.6])  # all of them in two of the reference's strata
    latents, labels = real({3: 4})
    target = TargetDistribution.from_reference({"T-shirt": [*[0.001] * 20, 1.0]})
    modes = find_difficulty_modes(latents, labels, values, 2, target, class_names=NAMES)
    assert modes.difficulties.max() < 0.01


@settings(max_examples=20)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=20, unique=True), st.integers(1, 20), st.sampled_from(["cliff", 0.9])
)
def test_strata_that_are_too_small_pass_modes_on_and_lose_none(values, per_class, wanted):
    assume(per_class <= len(values))
    latents, labels = real({3: len(values)})
    target = TargetDistribution.preset(wanted) if isinstance(wanted, str) else TargetDistribution.constant(wanted)
    modes = find_difficulty_modes(latents, labels, values, per_class, target, class_names=NAMES)
    assert len(modes.centres) == per_class
    assert (modes.sizes > 0).all()


@settings(max_examples=15)
@given(st.integers(0, BINS - 1), st.integers(1, 30), seeds)
def test_modes_that_a_stratum_cannot_hold_go_to_the_nearest_with_room(wanted, per_class, seed):
    values, target = graded(30, seed), TargetDistribution.histogram(np.eye(BINS)[wanted])
    latents, labels = real({3: 30})
    modes = find_difficulty_modes(latents, labels, values, per_class, target, class_names=NAMES)
    room, found = np.bincount(strata_of(values), minlength=BINS), modes_in_strata(modes, values)
    distance = np.abs(np.arange(BINS) - wanted)
    nearer = distance < distance[found > 0].max()
    assert found.sum() == per_class
    assert found[nearer].tolist() == room[nearer].tolist()


def test_one_difficulty_puts_all_modes_into_its_stratum():
    values = graded(150)
    latents, labels = real({3: len(values)})
    stratum, target = strata_of(values)[17], TargetDistribution.constant(values[17])
    modes = find_difficulty_modes(latents, labels, values, 4, target, class_names=NAMES, average=2)
    assert modes_in_strata(modes, values)[stratum] == 4


def test_same_seed_gives_the_same_difficulty_modes():
    latents, labels = real({3: 40, 7: 40})
    values = np.random.default_rng(0).uniform(0, 1, 80)
    target = TargetDistribution.preset("slope")
    first, again = (
        find_difficulty_modes(latents, labels, values, 10, target, class_names=NAMES, seed=1) for _ in range(2)
    )
    assert same(first, again)
    assert first.labels.tolist() == [3] * 10 + [7] * 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"per_class": 7}, "'Ankle boot, boot' has 6 images, too few for 7 modes"),
        ({"per_class": 0}, "at least 1 mode"),
        ({"average": 3}, "cannot be averaged by 3"),
        ({"average": 0}, "cannot be averaged by 0"),
        ({"latents": torch.zeros(16, 4)}, "cannot be averaged"),
        ({"labels": [3] * 15}, "15 labels"),
        ({"latents": torch.zeros(0, 2, 4, 4), "labels": []}, "in 0 latents"),
        ({"class_names": {7: "Bag"}}, "label 3 has no class name"),
    ],
)
def test_what_has_no_modes_is_refused(changes, message):
    latents, labels = real({3: 10, 7: 6})
    arguments = {"latents": latents, "labels": labels, "per_class": 2, "class_names": NAMES} | changes
    with pytest.raises(ValueError, match=message):
        find_modes(**arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"average": 3}, "cannot be averaged by 3"),
        ({"seed": -1}, "seed is -1; give a whole number"),
        ({"target": PerClass({"Coat": TargetDistribution.preset("hill")})}, "no target for class 'Bag'"),
    ],
)
def test_what_cannot_become_modes_is_refused_before_anything_is_encoded(tmp_path, monkeypatch, changes, message):
    write_images(tmp_path, {"Bag": 3}, difficulty=lambda name, index: 0.1)
    monkeypatch.setattr(mode_search, "encode_pool", None)
    with pytest.raises(ValueError, match=message):
        find_pool_modes(tiny_pipeline(), read_pool(tmp_path), 3, **changes)


def test_class_may_have_a_label_below_zero():
    latents, labels = real({3: 6})
    found = find_modes(latents, [-1] * len(labels), 2, class_names={-1: "Bag"})
    assert found.labels.tolist() == [-1, -1]


def test_reference_of_one_class_gives_the_modes_of_the_same_reference_of_all():
    latents, labels = real({3: 40})
    values = 1 / (1 + np.exp(-np.random.default_rng(0).normal(-4, 2, 40)))
    reference = TargetDistribution.from_reference(1 / (1 + np.exp(-np.random.default_rng(1).normal(-2, 1, 300))))
    name = NAMES[3]
    whole, of_class = (
        find_difficulty_modes(latents, labels, values, 10, target, class_names={3: name})
        for target in (reference, PerClass({name: reference}))
    )
    assert same(whole, of_class)


@pytest.mark.parametrize("bad", [float("nan"), -0.1, 1.1, None], ids=["nan", "below", "above", "missing"])
def test_images_without_a_difficulty_are_refused(bad):
    latents, labels = real({3: 6})
    values = [0.1] * 5 + ([] if bad is None else [bad])
    with pytest.raises(ValueError, match="5 of 6 images have a difficulty"):
        find_difficulty_modes(latents, labels, values, 2, TargetDistribution.preset("hill"), class_names=NAMES)


def test_target_without_the_class_is_refused():
    latents, labels = real({3: 6})
    with pytest.raises(ValueError, match="no class 'T-shirt'"):
        find_difficulty_modes(
            latents, labels, [0.5] * 6, 2, TargetDistribution.from_reference({"Bag": [0.5]}), class_names=NAMES
        )


@pytest.mark.parametrize("scored", [False, True])
def test_saved_modes_are_loaded_as_they_were(tmp_path, scored):
    latents, labels = real({3: 12, 7: 12})
    target, values = TargetDistribution.preset("ground"), np.linspace(0.1, 1, 24)
    modes = find_modes(latents, labels, 3, class_names=NAMES)
    if scored:
        modes = find_difficulty_modes(latents, labels, values, 3, target, class_names=NAMES)
    modes = dataclasses.replace(modes, vae="tiny, scaling 0.18215")
    modes.save(tmp_path / "new" / "modes.safetensors")
    assert same(Modes.load(tmp_path / "new" / "modes.safetensors"), modes)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["modes.safetensors"]


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "folder", "gone", "foreign", "no names", "other tensors"])
def test_file_that_holds_no_modes_is_refused_by_name(tmp_path, damage):
    path = tmp_path / "modes.safetensors"
    modes, ours = modes_of_sizes([2, 3]), {"format": "dag-diffusion modes 1", "class_names": "{}", "vae": ""}
    modes.save(path)
    tensors = {"centres": modes.centres, "labels": modes.labels, "sizes": modes.sizes}
    damages = {
        "cut": lambda: path.write_bytes(path.read_bytes()[:-7]),
        "text": lambda: path.write_text("hello"),
        "empty": lambda: path.write_bytes(b""),
        "folder": lambda: (path.unlink(), path.mkdir()),
        "gone": lambda: path.unlink(),
        "foreign": lambda: save_file(tensors, path),
        "no names": lambda: save_file(tensors, path, ours),
        "other tensors": lambda: save_file({"weight": torch.ones(1)}, path, ours),
    }
    damages[damage]()
    told = "there is no file of modes at" if damage in ("folder", "gone") else r"modes\.safetensors is no intact file"
    with pytest.raises(ValueError, match=told):
        Modes.load(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"centres": torch.zeros(3, 4)},
        {"centres": torch.full((3, 1, 2, 2), float("nan"))},
        {"sizes": torch.ones(2)},
        {"difficulties": torch.zeros(2)},
        {"class_names": {7: "Ankle boot"}},
    ],
)
def test_modes_that_do_not_fit_together_are_refused(changes):
    with pytest.raises(ValueError, match="modes need finite centres"):
        dataclasses.replace(modes_of_sizes([2, 3]), **changes)


def test_class_without_modes_is_refused_with_those_that_have_some():
    with pytest.raises(ValueError, match=r"label 4, only for 3 \(T-shirt\)"):
        modes_of_sizes([2, 3]).of_class(4)


@given(st.integers(1, 12), st.integers(1, 60), seeds)
def test_modes_in_turn_differ_by_at_most_one_image_at_every_moment(count, images, seed):
    modes = modes_of_sizes([1] * count)
    drawn = allot(modes, 3, images, seed=seed)
    assert set(drawn) <= set(modes.of_class(3))
    for so_far in range(1, images + 1):
        counts = np.bincount(drawn[:so_far], minlength=count + 1)[1:]
        assert counts.max() - counts.min() <= 1


@given(st.lists(st.integers(1, 50), min_size=1, max_size=10), st.integers(1, 100), seeds)
def test_proportional_allotment_is_nearest_to_the_sizes(sizes, images, seed):
    counts = np.bincount(
        allot(modes_of_sizes(sizes), 3, images, proportional=True, seed=seed), minlength=len(sizes) + 1
    )
    assert counts.sum() == images
    assert counts[0] == 0
    assert (np.abs(counts[1:] - images * np.array(sizes) / sum(sizes)) < 1 + 1e-9).all()


@given(st.integers(1, 40), st.integers(1, 40), seeds)
def test_pool_that_grows_keeps_the_modes_of_its_first_images(fewer, more, seed):
    modes = modes_of_sizes([1] * 7)
    grown = allot(modes, 3, fewer + more, seed=seed)
    assert grown[:fewer].tolist() == allot(modes, 3, fewer, seed=seed).tolist()


def test_another_seed_or_class_allots_in_another_order():
    modes = Modes(torch.zeros(40, 1, 2, 2), torch.tensor([3] * 20 + [7] * 20), torch.ones(40), NAMES)
    first, other, neighbour = allot(modes, 3, 20, seed=0), allot(modes, 3, 20, seed=1), allot(modes, 7, 20, seed=0)
    assert first.tolist() != other.tolist()
    assert first.tolist() != (neighbour - 20).tolist()


def test_modes_are_not_dealt_out_in_the_order_of_a_pools_target_difficulties():
    modes = modes_of_sizes([1] * 20)
    shuffled_targets = np.random.default_rng([0, 3]).permutation(modes.of_class(3))  # as generation shuffles them
    assert allot(modes, 3, 20, seed=0).tolist() != shuffled_targets.tolist()


def test_no_images_cannot_be_allotted():
    with pytest.raises(ValueError, match="cannot allot 0 images of 'T-shirt'"):
        allot(modes_of_sizes([1]), 3, 0)
