import json
import math
import signal
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from disks import unprivileged_mounts
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny import write_images
from tiny_training import (
    CONFIG,
    INPUTS,
    TRAININGS,
    StoppedHereError,
    loss,
    network,
    plainly_trained,
    train_on_full_disk,
    train_until_killed,
    train_where_another_run_works,
    train_where_only_the_first_sees_the_checkpoint,
    train_with_others,
    trained,
)
from torch import nn
from warm import context, run_together

from dag_diffusion.data.files import locked
from dag_diffusion.processes import FailedElsewhereError, StoppedError
from dag_diffusion.training.averages import WIDEST, Average, exponent_of
from dag_diffusion.training.batches import Batch, Order, shares
from dag_diffusion.training.checkpoints import read_record, work_folder
from dag_diffusion.training.loop import CHECKPOINT, LOSSES, LoopConfig, fit
from dag_diffusion.training.schedules import rate_factor
from dag_diffusion.training.shared_norms import shared_norms


def same(one: nn.Module, other: nn.Module) -> bool:
    return same_values(one.state_dict(), other.state_dict())


def same_values(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def rows(folder) -> list[dict]:
    lines = (folder / LOSSES).read_text().splitlines()
    timed = ("images_per_second", "seconds_left")
    return [{name: value for name, value in json.loads(line).items() if name not in timed} for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, trained(folder)


@pytest.mark.parametrize(("width", "seed"), [(0.0, 0), (0.0, 1), (0.2, 0)])
def test_run_is_the_plain_loop_of_torch(tmp_path, width, seed):
    torch.manual_seed(1)
    model = nn.Linear(3, 3)
    plain = deepcopy(model)
    average = [torch.zeros_like(weight) for weight in plain.parameters()]
    optimizer = torch.optim.AdamW(
        [{"params": plain.weight, "weight_decay": 0.5}, {"params": plain.bias, "weight_decay": 0.0}]
    )
    order = Order(len(INPUTS), 5, seed)
    for step in range(12):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * rate_factor(step, 12, 0.3)
        optimizer.zero_grad()
        loss(plain, Batch(order(step), slice(0, 5), step, seed, torch.device("cpu"))).backward()
        assert nn.utils.clip_grad_norm_(plain.parameters(), 0.1) > 0.1
        optimizer.step()
        kept = (1 - 1 / (step + 1)) ** (1 + exponent_of(width)) if width else 0.0
        pairs = zip(average, plain.parameters(), strict=True)
        average = [kept * mean + (1 - kept) * weight.detach() for mean, weight in pairs]
    config = replace(CONFIG, weight_decay=0.5, warm_up=0.3, max_norm=0.1, average_width=width, seed=seed)
    fit(model, loss, len(INPUTS), tmp_path, replace(config, precision="float32"))
    torch.testing.assert_close([weight.detach() for weight in model.parameters()], average)


@settings(max_examples=12)
@given(stops=st.lists(st.integers(1, 11), max_size=3, unique=True))
def test_run_that_stops_at_any_steps_ends_with_the_weights_of_one_that_does_not(tmp_path_factory, whole, stops):
    folder = tmp_path_factory.mktemp("stopped")
    for stop in sorted(stops):
        with pytest.raises(StoppedHereError):
            trained(folder, stop_after=stop)
    assert same(trained(folder), whole[1])
    assert rows(folder) == rows(whole[0])


@pytest.mark.slow
@pytest.mark.parametrize("kill_at", [3, 11, 24, 41])
def test_run_that_is_killed_goes_on_to_the_same_weights_and_losses(tmp_path, whole, kill_at):
    process = context().Process(target=train_until_killed, args=(tmp_path, kill_at))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert same(trained(tmp_path), whole[1])
    assert rows(tmp_path) == rows(whole[0])
    assert not list(tmp_path.glob(".*.partial"))


@pytest.mark.slow
@unprivileged_mounts
def test_full_disk_loses_nothing(tmp_path, whole):
    process = context().Process(target=train_on_full_disk, args=(tmp_path, tmp_path))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert "No space left" in (tmp_path / "told").read_text()
    assert same_values(load_file(tmp_path / "weights.safetensors"), whole[1].state_dict())


@pytest.mark.slow
def test_two_processes_come_to_the_weights_of_one(tmp_path):
    run_together(train_with_others, tmp_path)
    alone = plainly_trained(tmp_path / "alone").state_dict()
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    assert same_values(first, second)
    for name, value in alone.items():
        torch.testing.assert_close(first[name], value)


@pytest.mark.slow
@pytest.mark.parametrize("training", TRAININGS)
def test_folder_in_which_another_run_works_is_refused_in_every_process_at_once(tmp_path, training):
    write_images(tmp_path / "images", {"Bag": 2, "Boot": 2})
    with locked(tmp_path / "run"), locked(work_folder(tmp_path / "run")):
        run_together(train_where_another_run_works, tmp_path, training)
    told = [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)]
    assert told == ["FileExistsError, then [0, 1]", "FailedElsewhereError, then [0, 1]"]


@pytest.mark.slow
def test_process_without_the_checkpoint_that_the_first_goes_on_from_says_so_and_all_end(tmp_path):
    fit(nn.Linear(3, 3), loss, len(INPUTS), tmp_path / "run-0", CONFIG)
    run_together(train_where_only_the_first_sees_the_checkpoint, tmp_path)
    first, second = ((tmp_path / f"{rank}.txt").read_text() for rank in range(2))
    assert "ValueError: the first process goes on from step 12, but this one sees none at" in second
    assert first.startswith("FailedElsewhereError: process 1 of 2 failed: the first process goes on from step 12")
    assert [told.rpartition(", then ")[2] for told in (first, second)] == ["[0, 1]"] * 2


@pytest.mark.parametrize("seen", ["none", "that of step 4"])
def test_another_checkpoint_than_the_first_process_goes_on_from_is_refused(tmp_path, monkeypatch, seen):
    if seen != "none":
        with pytest.raises(StoppedHereError):
            trained(tmp_path, stop_after=4)
    monkeypatch.setattr("dag_diffusion.training.loop.gather", lambda own: [own._replace(step=7)])
    with pytest.raises(ValueError, match=f"goes on from step 7, but this one sees {seen} at .*same disk"):
        trained(tmp_path)


def test_process_begins_anew_in_the_precision_of_the_first_where_that_has_no_checkpoint(tmp_path, monkeypatch):
    with pytest.raises(StoppedHereError):
        trained(tmp_path, stop_after=4)
    of_first = {"step": None, "precision": "bfloat16"}
    monkeypatch.setattr("dag_diffusion.training.loop.gather", lambda own: [own._replace(**of_first)])
    with pytest.raises(StoppedHereError):
        trained(tmp_path, stop_after=0)
    with pytest.raises(StoppedHereError):
        trained(tmp_path, stop_after=1)
    record = read_record(tmp_path / CHECKPOINT)
    assert (record["step"], record["settings"]["precision"]) == (1, "bfloat16")


@pytest.mark.parametrize("done", [0, 3], ids=["forward", "backward"])
def test_norm_whose_other_process_is_gone_says_so(monkeypatch, done):
    answers = iter([None] * done)  # three sums a norm, on the way forth

    def all_reduce(tensor):
        if next(answers, "gone") == "gone":
            raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr("torch.distributed.all_reduce", all_reduce)
    monkeypatch.setattr("dag_diffusion.training.shared_norms.this_process", lambda: SimpleNamespace(num_processes=2))
    norm = nn.BatchNorm2d(1)
    with shared_norms(norm), pytest.raises(FailedElsewhereError, match="another process is gone"):
        norm(torch.rand(2, 1, 4, 4, requires_grad=True)).sum().backward()


def test_finished_training_is_not_done_again(whole):
    folder, model = whole
    assert same(trained(folder, stop_after=1), model)


@pytest.mark.parametrize(
    ("change", "told"),
    [({"learning_rate": 0.1}, "learning_rate was 0.05 and is now 0.1"), ({"steps": 13}, "steps was 12 and is now 13")],
)
def test_other_settings_are_refused_with_what_differs(whole, change, told):
    with pytest.raises(ValueError, match=told):
        trained(whole[0], replace(CONFIG, **change))


def test_other_images_are_refused(whole):
    with pytest.raises(ValueError, match=r"images was 7 and is now 6"):
        fit(network(), loss, 6, whole[0], CONFIG)
    with pytest.raises(ValueError, match=r"pixels was None and is now 'abc'"):
        trained(whole[0], identity={"pixels": "abc"})


def test_other_network_is_refused(whole):
    with pytest.raises(ValueError, match=r"trained weights was 75 and is now 12"):
        fit(nn.Linear(3, 3), loss, len(INPUTS), whole[0], CONFIG)


def test_how_it_is_computed_may_change_when_a_run_goes_on(tmp_path, whole):
    with pytest.raises(StoppedHereError):
        trained(tmp_path, stop_after=6)
    trained(tmp_path, replace(CONFIG, accumulation=2, checkpoint_seconds=9))


def test_damaged_checkpoint_is_named(tmp_path):
    (tmp_path / CHECKPOINT).write_bytes(b"damaged")
    with pytest.raises(ValueError, match=rf"{CHECKPOINT} is damaged or no checkpoint"):
        trained(tmp_path)


def test_loss_that_is_not_finite_stops_and_the_last_checkpoint_is_kept(tmp_path, monkeypatch):
    def broken(model: nn.Module, batch: Batch) -> torch.Tensor:
        return loss(model, batch) * (float("nan") if batch.step == 8 else 1)

    monkeypatch.setattr("dag_diffusion.training.loop.read_tensors", pytest.fail)  # of all weights, for one number
    with pytest.raises(FloatingPointError, match=r"nan .* at step 9, the checkpoint of step 8 is kept; begin anew"):
        fit(network(), broken, len(INPUTS), tmp_path, CONFIG)
    monkeypatch.undo()
    reached = []
    fit(network(), loss, len(INPUTS), tmp_path, CONFIG, progress=lambda _, done, total: reached.append(done))
    assert reached[0] == 8


def test_random_draws_of_the_caller_are_left_as_they_were(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    model = network()
    torch.manual_seed(5)
    fit(model, loss, len(INPUTS), tmp_path, CONFIG)
    assert torch.equal(torch.rand(3), expected)


def test_training_on_the_processor_seeds_no_accelerator(tmp_path, monkeypatch):
    model = network()
    for one in ("torch.cuda.manual_seed", "torch.cuda.manual_seed_all", "torch.mps.manual_seed"):
        monkeypatch.setattr(one, lambda seed: pytest.fail("an accelerator is seeded"))
    fit(model, loss, len(INPUTS), tmp_path, CONFIG)


def test_looks_see_averaged_weights_and_change_nothing(tmp_path, whole):
    seen = []

    def look(step: int, model: nn.Module) -> None:
        torch.rand(3)
        seen.append((step, model.training, model[0].weight.detach().clone()))

    model = trained(tmp_path, look=look, looks=4)
    assert same(model, whole[1])
    assert [(step, training) for step, training, _ in seen] == [(step, False) for step in (3, 6, 9, 12)]
    assert torch.equal(seen[-1][2], model[0].weight)


def test_run_that_is_stopped_where_a_look_is_due_has_all_looks(tmp_path):
    def stopping(model: nn.Module, batch: Batch) -> torch.Tensor:
        if batch.step == 5:
            signal.raise_signal(signal.SIGTERM)
        return loss(model, batch)

    seen = []
    options = {"look": lambda step, model: seen.append(step), "looks": 4}
    with pytest.raises(StoppedError, match="after 6 of 12 steps"):
        fit(network(), stopping, len(INPUTS), tmp_path, CONFIG, **options)
    trained(tmp_path, **options)
    assert seen == [3, 6, 9, 12]


def test_run_that_is_stopped_in_its_last_step_says_so_and_is_whole_in_the_next_call(tmp_path, whole):
    def stopping(model: nn.Module, batch: Batch) -> torch.Tensor:
        if batch.step == CONFIG.steps - 1:
            signal.raise_signal(signal.SIGTERM)
        return loss(model, batch)

    with pytest.raises(StoppedError, match="after 12 of 12 steps"):  # since another training may follow
        fit(network(), stopping, len(INPUTS), tmp_path, CONFIG)
    assert same(trained(tmp_path), whole[1])


def test_device_that_is_seldom_waited_for_has_all_looks_and_rows(tmp_path, monkeypatch):
    config, seen = replace(CONFIG, steps=37), []
    trained(tmp_path / "each", config)
    monkeypatch.setattr("dag_diffusion.training.loop._steps_together", lambda device: 10)  # as of a GPU
    trained(tmp_path / "ten", config, look=lambda step, model: seen.append(step), looks=4)
    assert seen == [9, 18, 27, 36]
    assert rows(tmp_path / "ten") == rows(tmp_path / "each")


def test_state_of_the_loss_goes_on_too(tmp_path):
    class Seen:
        total = torch.zeros(())

        def state_dict(self):
            return {"total": self.total}

        def load_state_dict(self, state):
            self.total = state["total"]

    def count(seen: Seen):
        def counted(model: nn.Module, batch: Batch) -> torch.Tensor:
            seen.total = seen.total + len(batch)
            return loss(model, batch)

        return counted

    def stop(stage: str, done: int, total: int) -> None:
        if done == 4:
            raise StoppedHereError

    first, second = Seen(), Seen()
    with pytest.raises(StoppedHereError):
        fit(network(), count(first), len(INPUTS), tmp_path, CONFIG, state=first, progress=stop)
    fit(network(), count(second), len(INPUTS), tmp_path, CONFIG, state=second)
    assert second.total == CONFIG.steps * CONFIG.batch_size


def test_parts_of_a_batch_add_up_to_the_whole(tmp_path):
    plain = replace(CONFIG, average_width=0.0, precision="float32")
    model = nn.Linear(3, 3)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    found = []
    for parts in (1, 2, 5):
        model.load_state_dict(start)
        fit(model, loss, len(INPUTS), tmp_path / str(parts), replace(plain, accumulation=parts))
        found.append(model.weight.detach().clone())
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0])


def test_frozen_weights_stay_and_are_not_stored(tmp_path):
    model = network()
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    fit(model, loss, len(INPUTS), tmp_path, CONFIG)
    assert torch.equal(model[0].weight, before)
    from safetensors import safe_open

    with safe_open(tmp_path / CHECKPOINT, "pt") as file:
        assert not [name for name in file.keys() if ".0." in name]  # noqa: SIM118 - no mapping
        assert "weight.4.bias" in file.keys()  # noqa: SIM118


def test_nothing_to_train_is_refused(tmp_path):
    with pytest.raises(ValueError, match="all are frozen"):
        fit(network().requires_grad_(False), loss, len(INPUTS), tmp_path, CONFIG)


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"warm_up": 1.0}, {"average_width": 0.3},
     {"max_norm": -1.0}, {"precision": "float16"}, {"accumulation": 0}, {"seed": -1}, {"seed": 2**64}],
)  # fmt: skip
def test_settings_that_cannot_train_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LoopConfig(**wrong)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 3))
def test_each_epoch_has_every_image_once(count, batch_size, seed):
    order = Order(count, batch_size, seed)
    seen = torch.cat([order(step) for step in range(-(-3 * count // batch_size))])[: 3 * count]
    for epoch in seen.split(count):
        assert sorted(epoch.tolist()) == list(range(count))


@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 5))
def test_shares_of_all_processes_make_the_batch(batch_size, processes, parts):
    if batch_size < processes * parts:
        with pytest.raises(ValueError, match="cannot be divided"):
            shares(batch_size, processes, parts, 0)
        return
    rows = [row for process in range(processes) for row in shares(batch_size, processes, parts, process)]
    every = torch.arange(batch_size)
    assert torch.equal(torch.cat([every[row] for row in rows]), every)
    sizes = [row.stop - row.start for row in rows]
    assert max(sizes) - min(sizes) <= 1


def test_shares_draw_what_the_whole_batch_would():
    every = torch.arange(9)
    device = torch.device("cpu")
    parts = [Batch(every, rows, 3, 0, device) for rows in shares(9, 2, 2, 0) + shares(9, 2, 2, 1)]
    whole = Batch(every, slice(0, 9), 3, 0, device)
    for draw in (lambda b: b.normal("noise", 2), lambda b: b.uniform("drop"), lambda b: b.integers("time", 1000)):
        assert torch.equal(torch.cat([draw(part) for part in parts]), draw(whole))
    assert not torch.equal(whole.normal("noise", 2), whole.normal("other", 2))


@given(st.integers(1, 500), st.floats(0, 0.99))
def test_learning_rate_rises_then_falls_and_never_ends(steps, warm_up):
    factors = [rate_factor(step, steps, warm_up) for step in range(steps)]
    peak = factors.index(max(factors))
    assert max(factors) == 1
    assert all(factor > 0 for factor in factors)
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


@given(st.floats(0.02, WIDEST - 0.01))
def test_average_remembers_the_share_of_the_run_that_was_asked_for(width):
    steps = 2000
    decays = (1 - 1 / torch.arange(1, steps + 1, dtype=torch.float64)) ** (1 + exponent_of(width))
    weights = (1 - decays) * torch.cat([decays.flip(0).cumprod(0).flip(0)[1:], torch.ones(1)])
    at = torch.arange(1, steps + 1) / steps
    mean = (weights * at).sum()
    assert weights.sum() == pytest.approx(1)
    assert ((weights * (at - mean).square()).sum().sqrt()).item() == pytest.approx(width, rel=0.05)


def test_average_of_half_precision_weights_is_kept_in_single():
    model = nn.Linear(2, 2).bfloat16()
    average = Average(model, 0.1)
    average.update(1)
    assert average.values["weight"].dtype == torch.float32
    with torch.no_grad():
        model.weight.add_(1)
    for step in range(1000, 1010):
        average.update(step)
    assert (average.values["weight"] != model.weight.float() - 1).all()
    average.copy_to_model()
    assert model.weight.dtype == torch.bfloat16


def test_autoencoder_that_diverges_is_told_another_way_than_a_rate_that_cannot_be_set(tmp_path):
    def broken(model: nn.Module, batch: Batch) -> torch.Tensor:
        return loss(model, batch) * math.nan

    with pytest.raises(FloatingPointError, match="begin anew with a lower learning_rate than"):
        fit(network(), broken, len(INPUTS), tmp_path / "usual", CONFIG)
    with pytest.raises(FloatingPointError, match="begin anew with another seed"):
        fit(network(), broken, len(INPUTS), tmp_path / "own", CONFIG, way_out="another seed")
