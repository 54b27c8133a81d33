"""Scores of folders: by class name, whatever the files look like, the batch size, or the number of classifiers."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile
from tiny import NAMES, PREPROCESSING, tiny_classifier, write_images
from torch import nn
from without_float64 import WithoutFloat64

from dag_diffusion import read_pool, score_pool
from dag_diffusion.classifiers import Preprocessing
from dag_diffusion.difficulty import MEASURES, difficulty, measure_named
from dag_diffusion.sampling import scoring
from dag_diffusion.sampling.scoring import fitted_image, prepared_image, read_ahead

SMALL = Preprocessing(16, 16, 3, (0.5,) * 3, (0.25,) * 3, crop=0.875, resample="bicubic")


def other_classifier(**changes) -> nn.Module:
    model = tiny_classifier(**changes)
    with torch.no_grad():
        model.classifier[-1].weight.mul_(-1)
    return model


def test_scores_follow_rows_whatever_the_batch_size(tmp_path):
    write_images(tmp_path, {"Bag": 3, "T-shirt": 4})
    pool, guide = read_pool(tmp_path), tiny_classifier()
    one, many = (score_pool(pool, guide, batch_size=size).difficulties for size in (1, 5))
    assert np.allclose(one, many, atol=1e-6)
    assert len(one) == 7


def test_images_are_scored_on_a_device_without_float64(tmp_path, monkeypatch):
    write_images(tmp_path, {"Bag": 3, "T-shirt": 4})
    pool, guide = read_pool(tmp_path), tiny_classifier()
    monkeypatch.setattr(scoring, "_on_cpu", lambda scorers: False)  # whose threads would each need the mode
    expected = score_pool(pool, guide).difficulties
    with WithoutFloat64():
        assert (score_pool(pool, guide).difficulties == expected).all()


def test_classes_are_scored_by_name_not_by_folder_order(tmp_path):
    write_images(tmp_path / "a", {"Bag": 1}, metadata=False)  # alphabetically first, the classifier's last
    pixels = torch.from_numpy(np.asarray(Image.open(tmp_path / "a/Bag/00000.png")).copy())[None, None] / 255
    guide = tiny_classifier()
    with torch.no_grad():
        expected = difficulty(guide((pixels - 0.5) / 0.5).logits, torch.tensor([2])).item()
    assert score_pool(read_pool(tmp_path / "a"), guide).difficulties[0] == pytest.approx(expected, abs=1e-6)


def every_kind_of_image() -> dict[str, Image.Image]:
    grey = Image.fromarray(np.linspace(0, 255, 256).astype(np.uint8).reshape(16, 16))
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    kinds = {mode.lower(): grey.convert(mode) for mode in ("L", "RGB", "RGBA", "P", "CMYK", "LA", "1")}
    return {k: v for k, v in kinds.items() if k != "1"} | {"sixteen-bit": deep}


@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_of_image_scores_like_its_grey_self(tmp_path, channels):
    (tmp_path / "Bag").mkdir()
    for name, image in every_kind_of_image().items():
        image.save(tmp_path / "Bag" / f"{name}.{'tif' if image.mode == 'CMYK' else 'png'}")
    guide = tiny_classifier()
    scores = score_pool(read_pool(tmp_path), guide).difficulties
    assert len(scores) == 7
    assert np.ptp(scores) < 0.02


def test_odd_sizes_and_one_pixel_are_scored(tmp_path):
    (tmp_path / "Bag").mkdir()
    for width, height in ((1, 1), (3, 500), (33, 17)):
        Image.new("L", (width, height), 128).save(tmp_path / "Bag" / f"{width}x{height}.png")
    assert np.isfinite(score_pool(read_pool(tmp_path), tiny_classifier()).difficulties).all()


def test_corrupt_image_is_named_and_fatal_or_skipped_as_asked(tmp_path, caplog):
    write_images(tmp_path, {"Bag": 2}, metadata=False)
    (tmp_path / "Bag" / "broken.png").write_bytes(b"not an image")
    (tmp_path / "Bag" / "cut.png").write_bytes((tmp_path / "Bag" / "00000.png").read_bytes()[:60])
    pool, guide = read_pool(tmp_path), tiny_classifier()
    with pytest.raises(ValueError, match=r"broken\.png is not a readable image"):
        score_pool(pool, guide)
    with caplog.at_level(logging.WARNING):
        scores = score_pool(pool, guide, on_error="skip")
    assert scores.skipped == ["Bag/broken.png", "Bag/cut.png"]
    assert np.isnan(scores.difficulties).tolist() == [False, False, True, True]


def test_class_that_the_classifier_lacks_is_named(tmp_path):
    write_images(tmp_path, {"Hat": 1}, metadata=False)
    with pytest.raises(ValueError, match="no class called 'Hat'"):
        score_pool(read_pool(tmp_path), tiny_classifier(NAMES))


@pytest.mark.parametrize("measure", MEASURES)
def test_scores_are_the_measure_of_the_logits(tmp_path, measure):
    write_images(tmp_path, {"Bag": 2, "T-shirt": 1})
    pool, guide = read_pool(tmp_path), tiny_classifier()
    pixels = torch.cat([torch.from_numpy(np.array(pool.open(i)))[None, None] for i in range(3)]) / 255
    with torch.no_grad():
        logits = guide((pixels - 0.5) / 0.5).logits
    own = torch.tensor([2 if row["class_name"] == "Bag" else 0 for row in pool.rows])
    expected = measure_named(measure)(logits, own).numpy()
    assert score_pool(pool, guide, measure=measure).difficulties == pytest.approx(expected, abs=1e-6)


def test_several_classifiers_are_averaged_each_by_its_own_labels(tmp_path):
    write_images(tmp_path, {"Bag": 2, "T-shirt": 2})
    pool = read_pool(tmp_path)
    models = [tiny_classifier(), other_classifier(names={0: "Bag", 1: "T-shirt"})]
    each = [score_pool(pool, model).difficulties for model in models]
    assert np.ptp(each[0] - each[1]) > 0.01
    assert score_pool(pool, models).difficulties == pytest.approx(np.mean(each, 0), abs=1e-6)


def test_image_is_read_once_for_classifiers_of_one_preprocessing(tmp_path, monkeypatch):
    write_images(tmp_path, {"Bag": 3})
    pool, fits = read_pool(tmp_path), []
    plain = Preprocessing.fitted
    monkeypatch.setattr(
        Preprocessing, "fitted", lambda self, images: fits.append(images.shape[-1]) or plain(self, images)
    )
    score_pool(pool, [tiny_classifier(), other_classifier()])
    assert fits.count(16) == 3  # besides the larger pictures that classifiers are tried with


def test_class_map_leads_where_no_rule_does(tmp_path):
    write_images(tmp_path, {"Handtasche": 2})
    pool, guide = read_pool(tmp_path), tiny_classifier()
    by_name = score_pool(pool, guide, class_map={"Handtasche": "Bag"}).difficulties
    assert by_name.tolist() == score_pool(pool, guide, class_map={"Handtasche": 2}).difficulties.tolist()


def test_features_are_what_the_last_layer_sees(tmp_path):
    write_images(tmp_path, {"Bag": 2, "T-shirt": 3})
    (tmp_path / "T-shirt/00001.png").write_bytes(b"no image")
    pool, guide = read_pool(tmp_path), tiny_classifier()
    scores = score_pool(pool, guide, features=True, on_error="skip", batch_size=2)
    with torch.no_grad():
        logits = guide.classifier[-1](torch.from_numpy(scores.features))
    own = torch.tensor([2 if row["class_name"] == "Bag" else 0 for row in pool.rows])
    assert scores.features.shape == (5, 4)
    assert difficulty(logits, own).numpy() == pytest.approx(scores.difficulties, abs=1e-5, nan_ok=True)
    assert np.isnan(scores.features).any(1).sum() == 1


def test_logits_are_the_features_where_no_linear_layer_gives_them(tmp_path):
    write_images(tmp_path, {"Bag": 2})
    guide = tiny_classifier()
    guide.classifier[-1] = nn.Sequential(nn.Unflatten(1, (4, 1, 1)), nn.Conv2d(4, 3, 1), nn.Flatten())
    assert score_pool(read_pool(tmp_path), guide, features=True).features.shape == (2, 3)


def test_features_cost_nothing_unless_asked_for(tmp_path):
    write_images(tmp_path, {"Bag": 1})
    guide = tiny_classifier()
    assert score_pool(read_pool(tmp_path), guide).features is None
    score_pool(read_pool(tmp_path), guide, features=True)
    assert not guide.classifier[-1]._forward_pre_hooks


def test_lower_precision_is_near_and_is_used(tmp_path):
    write_images(tmp_path, {"T-shirt": 4})
    pool, guide = read_pool(tmp_path), tiny_classifier()
    full, half = (score_pool(pool, guide, dtype=dtype).difficulties for dtype in (None, torch.bfloat16))
    assert full.tolist() != half.tolist()
    assert full == pytest.approx(half, abs=0.1)


def test_half_weights_cannot_be_scored_in_full(tmp_path):
    write_images(tmp_path, {"Bag": 1})
    with pytest.raises(ValueError, match=r"call classifier\.float\(\)"):
        score_pool(read_pool(tmp_path), tiny_classifier().to(torch.bfloat16), dtype=torch.float32)


def test_logits_that_are_not_finite_name_the_first_file(tmp_path):
    write_images(tmp_path, {"Bag": 3})
    guide = tiny_classifier()
    with torch.no_grad():
        guide.classifier[-1].bias[1] = float("nan")
    with pytest.raises(ValueError, match=r"Bag/00000\.png are not finite in float32; .*dtype=torch\.float32"):
        score_pool(read_pool(tmp_path), guide)


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("frozen_from", [0, scoring.FROZEN_FROM])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_probabilities_are_not_taken_for_logits(tmp_path, monkeypatch, classes, frozen_from, batch_size):
    write_images(tmp_path, {"0": 3})
    monkeypatch.setattr(scoring, "FROZEN_FROM", frozen_from)
    guide = tiny_classifier({label: str(label) for label in range(classes)})
    plain = guide.forward

    def scored(form):
        guide.forward = lambda pixels: form(plain(pixels).logits, 1)
        return score_pool(read_pool(tmp_path), guide, batch_size=batch_size).difficulties

    with pytest.raises(ValueError, match="leave the softmax out"):
        scored(torch.softmax)
    assert scored(torch.log_softmax) == pytest.approx(scored(torch.add), abs=1e-5)  # which shifts all logits alike


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measure": "loss"}, "no measure 'loss'"),
        ({"on_error": "ignore"}, "use 'raise' to stop"),
        ({"class_map": {"Bag": "Hat"}}, "Hat"),
    ],
)
def test_wrong_options_are_refused(tmp_path, options, message):
    write_images(tmp_path, {"Bag": 1})
    with pytest.raises(ValueError, match=message):
        score_pool(read_pool(tmp_path), tiny_classifier(), **options)


def test_classifiers_that_cannot_score_are_refused(tmp_path):
    write_images(tmp_path, {"Bag": 1})
    with pytest.raises(ValueError, match=r"call classifier\.eval\(\)"):
        score_pool(read_pool(tmp_path), [tiny_classifier(), tiny_classifier().train()])
    with pytest.raises(ValueError, match="give at least one"):
        score_pool(read_pool(tmp_path), [])


class OwnNetwork(nn.Module):
    """A network that is no model of transformers."""

    def __init__(self, form=lambda logits: logits, **config):
        super().__init__()
        self.layer, self.form = nn.Linear(1, 3), form
        self.config = SimpleNamespace(**({"id2label": NAMES, "preprocessing": PREPROCESSING} | config))

    def forward(self, images):
        return self.form(self.layer(images.mean((2, 3))))


class WithoutParameters(OwnNetwork):
    def __init__(self):
        super().__init__()
        del self.layer


BROKEN = {
    "a str can neither steer nor score; .*load_classifier\\('guide'\\)": "guide",
    "a Linear does not say which classes": nn.Linear(1, 3).eval(),
    "has no config.id2label, {label: name}": OwnNetwork(id2label=list(NAMES.values())),
    "the preprocessing of OwnNetwork is unknown": OwnNetwork(preprocessing=None),
    "a WithoutParameters has no parameters": WithoutParameters(),
    r"returns a tensor \(3,\) without logits": OwnNetwork(lambda logits: logits[0]),
    "returns a dict without logits": OwnNetwork(lambda logits: {"scores": logits}),
    "returns a list without logits": OwnNetwork(lambda logits: []),
}


@pytest.mark.parametrize("message", BROKEN)
def test_networks_of_ones_own_that_cannot_score_are_told_why(tmp_path, message):
    write_images(tmp_path, {"Bag": 1})
    given = BROKEN[message]
    with pytest.raises(ValueError, match=message):
        score_pool(read_pool(tmp_path), given.eval() if isinstance(given, nn.Module) else given)


def test_progress_counts_every_image(tmp_path):
    write_images(tmp_path, {"Bag": 5})
    (tmp_path / "Bag/00001.png").write_bytes(b"no image")
    seen = []
    score_pool(
        read_pool(tmp_path), tiny_classifier(), batch_size=2, on_error="skip", progress=lambda *told: seen.append(told)
    )
    assert seen == [("images", done, 5) for done in (0, 2, 4, 5)]


@given(count=st.integers(0, 40), batch_size=st.integers(1, 9))
def test_reading_ahead_keeps_order_and_bounds(count, batch_size):
    asked = []
    batches = []
    for batch in read_ahead(lambda i: asked.append(i) or i * i, range(count), batch_size):
        batches.append(batch)
        assert len(asked) <= batch_size * (len(batches) + scoring.AHEAD)
    assert [pair for batch in batches for pair in batch] == [(i, i * i) for i in range(count)]
    assert all(len(batch) == batch_size for batch in batches[:-1])


def test_large_images_are_decoded_one_at_a_time(tmp_path, monkeypatch):
    write_images(tmp_path, {"Bag": 12}, size=20)
    inside, most = [], []
    plain = ImageFile.ImageFile.load

    def counted(image):
        inside.append(image)
        most.append(len(inside))
        pixels = plain(image)
        inside.remove(image)
        return pixels

    monkeypatch.setattr("dag_diffusion.data.images.LARGE", 399)
    monkeypatch.setattr(ImageFile.ImageFile, "load", counted)
    score_pool(read_pool(tmp_path), tiny_classifier())
    assert set(most) == {1}


def test_fitted_image_is_eight_bit_and_close_to_the_float_path(tmp_path):
    write_images(tmp_path, {"Bag": 1}, size=50)
    pool = read_pool(tmp_path)
    pixels = torch.from_numpy(np.array(pool.open(0)))[None, None] / 255
    assert fitted_image(pool, 0, [SMALL])[SMALL].dtype == torch.uint8
    assert (prepared_image(pool, 0, SMALL) - SMALL(pixels)).abs().max() < 4 * 2 / 255  # 4 is 1 / std


def test_eight_bit_resizing_is_that_of_pillow(tmp_path):
    write_images(tmp_path, {"Bag": 1}, size=61)
    pool = read_pool(tmp_path)
    whole = Preprocessing(20, 20, 1, (0.0,), (1.0,), crop=1.0, resample="bicubic")
    expected = np.asarray(pool.open(0).resize((20, 20), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(fitted_image(pool, 0, [whole])[whole][0, 0].numpy().astype(int) - expected).max() <= 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_scores_in_half_precision_like_the_cpu_in_full(tmp_path):
    write_images(tmp_path, {"Bag": 5, "T-shirt": 5})
    pool, guide = read_pool(tmp_path), tiny_classifier()
    full = score_pool(pool, guide).difficulties
    half, exact = (score_pool(pool, guide.cuda(), dtype=dtype).difficulties for dtype in (None, torch.float32))
    assert exact == pytest.approx(full, abs=1e-3)
    assert half == pytest.approx(full, abs=0.02)


def test_entropy_asks_for_no_class_and_so_for_no_name(tmp_path):
    write_images(tmp_path, {"Hat": 2}, metadata=False)
    pool, guide = read_pool(tmp_path), tiny_classifier()
    assert (score_pool(pool, guide, measure="entropy").difficulties >= 0).all()
    with pytest.raises(ValueError, match="Hat"):
        score_pool(pool, guide, measure="el2n")
