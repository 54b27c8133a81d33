"""Transparent pictures lie on a colour that is chosen, and pictures of any shape become squares."""

import io
import json
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_odd_images import chunk
from tiny import tiny_classifier
from typer.testing import CliRunner

from dag_diffusion.cli.commands import app
from dag_diffusion.data.canvas import MOST_PADDED, Canvas, canvas_for, fit_for, trained_fit, trim_for
from dag_diffusion.data.common_kind import common_kind
from dag_diffusion.data.files import write_json
from dag_diffusion.data.images import as_eight_bit, decoded, opaque
from dag_diffusion.data.pools import Pool
from dag_diffusion.data.preparing.prepared import prepare

RED = (255, 0, 0)
STORED = [
    *(("grey", bits) for bits in (1, 2, 4, 8, 16)),
    *((kind, bits) for kind in ("colours", "grey with alpha", "colours with alpha") for bits in (8, 16)),
]


def stored(kind: str, bits: int, pixels: list[list[int]], transparent: tuple[int, ...] = ()) -> bytes:
    """A PNG of one row whose pixels are given as whole numbers of so many bits."""
    colour_type = {"grey": 0, "colours": 2, "grey with alpha": 4, "colours with alpha": 6}[kind]
    text = "".join(f"{number:0{bits}b}" for pixel in pixels for number in pixel)
    raw = b"\0" + bytes(int(text[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(text), 8))
    header = struct.pack(">IIBBBBB", len(pixels), 1, bits, colour_type, 0, 0, 0)
    hidden = chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)) if transparent else b""
    parts = chunk(b"IHDR", header), hidden, chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("data", "grey"),
    [
        (stored("grey", 1, [[0], [1]], (1,)), 0),
        (stored("grey", 2, [[1], [2]], (2,)), 85),
        (stored("grey", 4, [[3], [15]], (15,)), 51),
        (stored("grey", 8, [[7], [9]], (9,)), 7),
        (stored("grey", 16, [[257 * 7], [257 * 9]], (257 * 9,)), 7),
        (stored("colours", 8, [[7, 7, 7], [9, 9, 9]], (9, 9, 9)), 7),
        (stored("colours", 16, [[7 << 8] * 3, [(9 << 8) + 5] * 3], ((9 << 8) + 5,) * 3), 7),
        (stored("grey with alpha", 8, [[7, 255], [9, 0]]), 7),
        (stored("grey with alpha", 16, [[257 * 7, 65535], [257 * 9, 0]]), 7),
        (stored("colours with alpha", 8, [[7, 7, 7, 255], [9, 9, 9, 0]]), 7),
        (stored("colours with alpha", 16, [[257 * 7] * 3 + [65535], [257 * 9] * 3 + [0]]), 7),
    ],
    ids=[f"{bits} bits of {kind}" for kind, bits in STORED],
)
def test_whatever_a_png_calls_transparent_shows_the_background(data, grey):
    image = decoded(data)
    assert as_eight_bit(opaque(image, "red"), 3)[0].tolist() == [[grey] * 3, [255, 0, 0]]
    assert as_eight_bit(image, 1)[0].tolist() == [[grey], [255]]


def test_palette_shows_the_background_where_it_is_transparent():
    image = Image.new("P", (2, 1))
    image.putpalette([7, 7, 7, 9, 9, 9])
    image.putpixel((1, 0), 1)
    for transparency in (1, b"\xff\0"):
        file = io.BytesIO()
        image.save(file, "PNG", transparency=transparency)
        laid = as_eight_bit(opaque(decoded(file.getvalue()), "red"), 3)
        assert laid[0].tolist() == [[7, 7, 7], [255, 0, 0]]


def test_laying_parts_of_an_image_is_laying_all_of_it(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 4), np.uint8)
    whole = as_eight_bit(Image.fromarray(pixels), 3)
    monkeypatch.setattr("dag_diffusion.data.images.LAID_AT_ONCE", 20)
    assert np.array_equal(as_eight_bit(Image.fromarray(pixels), 3), whole)


def pool_of(image: Image.Image, canvas: Canvas) -> Pool:
    file = io.BytesIO()
    image.save(file, "PNG")
    rows = [{"file_name": "0.png", "label": 0, "class_name": "a"}]
    return Pool(path=Path("images"), rows=rows, encoded=[file.getvalue()], canvas=canvas)


def test_pool_opens_its_images_on_its_canvas():
    image = Image.new("RGBA", (8, 4), (0, 0, 0, 0))
    pool = pool_of(image, Canvas("red", "pad"))
    opened = pool.open(0)
    assert (opened.size, opened.getcolors()) == ((8, 8), [(64, RED)])
    assert pool.select([0]).open(0).size == (8, 8)
    assert pool_of(image, Canvas("red")).open(0).size == (8, 4)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16"])
@pytest.mark.parametrize("size", [(6, 3), (3, 6), (5, 5), (1, 9)])
def test_padding_adds_bars_and_changes_no_pixel(mode, size):
    image = Image.new(mode, size)
    if mode == "I;16":
        image.putpixel((0, 0), 65535)  # else it may be of 8 bits
    pixels = as_eight_bit(image, 3)
    padded = as_eight_bit(Canvas("#00ff00", "pad").laid(image), 3)
    side, (width, height) = max(size), size
    left, top = (side - width) // 2, (side - height) // 2
    assert padded.shape == (side, side, 3)
    middle = padded[top : top + height, left : left + width]
    transparent = mode in {"RGBA", "LA"}
    assert np.array_equal(middle, np.full_like(middle, (0, 255, 0)) if transparent else pixels)
    assert (padded == (0, 255, 0)).all(2).sum() >= side * side - width * height


def test_grey_stays_grey_on_a_grey_background():
    assert Canvas("white", "pad").laid(Image.new("L", (4, 2))).mode == "L"
    assert Canvas("red", "pad").laid(Image.new("L", (4, 2))).mode == "RGB"


@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_strip_becomes_no_huge_square(fit):
    laid = Canvas(fit=fit).laid(Image.new("RGB", (30_000, 10), "black"))
    assert laid.size == (MOST_PADDED, MOST_PADDED)
    assert ((np.asarray(laid) == 0).mean() == 1) == (fit == "stretch")


@pytest.mark.parametrize("background", ["whit", "", "#ff000080", "white;", 3])
def test_background_that_is_no_opaque_colour_is_refused(background):
    with pytest.raises(ValueError, match=r"background .* (use a name such as 'white'|use an opaque colour)"):
        Canvas(background)


def test_unknown_fit_is_refused():
    with pytest.raises(ValueError, match="fit is 'cover'; use 'pad'"):
        Canvas(fit="cover")


def trained(folder: Path, fit: str, **more: bool) -> Path:
    """The folder of a model that says how its images were fitted."""
    folder.mkdir(parents=True)
    write_json(folder / "training.json", {"canvas": {"background": "white", "fit": fit, **more}})
    return folder


def test_fit_is_that_of_the_models_and_nobody_has_to_ask(tmp_path):
    padded, cropped = trained(tmp_path / "padded", "pad"), trained(tmp_path / "cropped", "crop")
    write_json(
        (drawn := tmp_path / "drawn") / "pool.json", {"settings": {"images_per_class": 1}, "pipeline": str(padded)}
    )
    write_json((chosen := tmp_path / "set") / "pool.json", {"selection": {}, "images": {"fit": "stretch"}, "pool": {}})
    assert fit_for(None, [padded, None, "facebook/DiT-XL-2-256"]) == "pad"
    assert [trained_fit(place) for place in (drawn, chosen, tmp_path)] == ["pad", "stretch", None]
    assert fit_for("pad", [padded]) == "pad"
    assert fit_for("stretch", ["facebook/DiT-XL-2-256"]) == "stretch"
    assert fit_for(None, []) is None
    with pytest.raises(ValueError, match="padded was trained on images by fit='pad', and fit='crop' is asked for"):
        fit_for("crop", [padded])
    with pytest.raises(ValueError, match=r"padded was trained on images by fit='pad' and .*cropped by fit='crop'; say"):
        fit_for(None, [padded, cropped])
    assert fit_for("crop", [padded, cropped]) == "crop"


def test_commands_fit_images_as_the_classifier_was_trained(tmp_path):
    names = {0: "cat", 1: "dog"}
    tiny_classifier(names).save_pretrained(tmp_path / "plain")
    shutil.copytree(tmp_path / "plain", trained(tmp_path / "padded", "pad"), dirs_exist_ok=True)
    for name in names.values():
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.effect_noise((30, 10), 80).save(tmp_path / "images" / name / "long.png")

    def score(guide: str, *options: str) -> tuple[int, list[float], str]:
        words = ["score", str(tmp_path / "images"), "--classifier", str(tmp_path / guide), "--quiet", *options]
        done = CliRunner().invoke(app, [*words, "--output", str(tmp_path / "scores.jsonl")])
        lines = (tmp_path / "scores.jsonl").read_text().splitlines() if done.exit_code == 0 else []
        return done.exit_code, [json.loads(line)["difficulty"] for line in lines], done.stderr

    code, cropped, errors = score("plain")
    assert code == 0, errors
    assert score("padded")[1] == score("plain", "--fit", "pad")[1] != cropped
    code, _, errors = score("padded", "--fit", "crop")
    assert code == 2
    assert "by --fit pad, and --fit crop is asked for; leave that out" in errors


def in_margins(thing: Image.Image, left: int, top: int, right: int, bottom: int) -> Image.Image:
    """The thing on a canvas that is empty but for it."""
    canvas = Image.new("RGBA", (left + thing.width + right, top + thing.height + bottom), (9, 9, 9, 0))
    canvas.paste(thing, (left, top))
    return canvas


@pytest.fixture(scope="module")
def thing():
    pixels = np.random.default_rng(1).integers(0, 256, (6, 10, 4), np.uint8)
    pixels[..., 3] = np.maximum(pixels[..., 3], 1)  # the faintest shadow is a part of it
    return Image.fromarray(pixels)


@given(margins=st.tuples(*[st.integers(0, 30)] * 4), fit=st.sampled_from(["pad", "stretch"]))
def test_transparent_margins_make_no_difference_once_they_are_trimmed(thing, margins, fit):
    canvas = Canvas("#808080", fit, trim=True)
    whole = pool_of(in_margins(thing, *margins), canvas)
    assert np.array_equal(whole.open(0), pool_of(thing, canvas).open(0))
    assert common_kind(whole).size == (10, 10)


@pytest.mark.parametrize("mode", ["LA", "P"])
def test_margins_are_found_in_every_mode_and_in_parts_of_an_image(mode, monkeypatch):
    monkeypatch.setattr("dag_diffusion.data.images.LAID_AT_ONCE", 40)
    opaque_thing = Image.new(mode[0], (10, 6), 1)
    file, image = io.BytesIO(), Image.new(mode, (30, 20), 0)
    if mode == "P":
        image.putpalette([255, 255, 255, 7, 7, 7])
        opaque_thing.putpalette([255, 255, 255, 7, 7, 7])
    image.paste(opaque_thing.convert(mode), (3, 9))
    image.save(file, "PNG", **({"transparency": 0} if mode == "P" else {}))
    assert Canvas(fit="stretch", trim=True).laid(decoded(file.getvalue())).getcolors() == [
        (100, (7, 7, 7) if mode == "P" else (1, 1, 1))
    ]


@pytest.mark.parametrize("image", [Image.new("RGB", (8, 4), "white"), Image.new("LA", (8, 4))], ids=["opaque", "empty"])
def test_image_that_is_opaque_or_empty_keeps_its_margins(image):
    assert Canvas(fit="pad", trim=True).laid(image).size == (8, 8)


def test_what_is_trimmed_is_not_cropped_and_records_tell_it_only_where_it_is():
    with pytest.raises(ValueError, match="fit='crop' would cut off the ends"):
        Canvas(trim=True)
    assert Canvas().as_fields() == {"background": "white", "fit": "crop"}
    assert Canvas(fit="pad", trim=True).as_fields()["trim"] is True


def test_images_are_trimmed_as_those_of_the_models_were(tmp_path):
    small, whole = trained(tmp_path / "small", "pad", trim=True), trained(tmp_path / "whole", "pad")
    write_json(
        (drawn := tmp_path / "drawn") / "pool.json", {"settings": {"images_per_class": 1}, "pipeline": str(small)}
    )
    assert [trim_for(False, [model]) for model in (small, drawn, whole, "a/b", None)] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert trim_for(True, ["a/b"])
    assert canvas_for(None, [drawn]) == canvas_for(None, [], trim=True) == Canvas(fit="pad", trim=True)
    with pytest.raises(ValueError, match="whole was trained on images with their margins, and trim=True is asked for"):
        trim_for(True, [whole])
    with pytest.raises(ValueError, match=r"small was trained on trimmed images and .*whole on whole ones"):
        trim_for(False, [whole, small])


def test_commands_trim_as_the_classifier_was_trained(tmp_path, thing):
    names = {0: "cat", 1: "dog"}
    tiny_classifier(names).save_pretrained(tmp_path / "plain")
    shutil.copytree(tmp_path / "plain", trained(tmp_path / "small", "pad", trim=True), dirs_exist_ok=True)
    shutil.copytree(tmp_path / "plain", trained(tmp_path / "whole", "pad"), dirs_exist_ok=True)
    for turned, name in enumerate(names.values()):
        (tmp_path / "images" / name).mkdir(parents=True)
        in_margins(thing.rotate(180 * turned), 9, 2, 30, 1).save(tmp_path / "images" / name / "small.png")

    def score(guide: str, *options: str) -> tuple[list[float], str]:
        words = ["score", str(tmp_path / "images"), "--classifier", str(tmp_path / guide), "--quiet", *options]
        done = CliRunner().invoke(app, [*words, "--output", str(tmp_path / "scores.jsonl")])
        lines = (tmp_path / "scores.jsonl").read_text().splitlines() if done.exit_code == 0 else []
        return [json.loads(line)["difficulty"] for line in lines], done.stderr

    assert score("small")[0] == score("plain", "--trim")[0] != score("whole")[0] == score("plain", "--fit", "pad")[0]
    for guide, options in (("whole", ["--trim"]), ("plain", ["--trim", "--fit", "crop"])):
        difficulties, errors = score(guide, *options)
        assert (difficulties, errors.count("\n"), "--trim" in errors) == ([], 1, True)


def test_trimming_of_opaque_images_is_told_to_change_nothing(tmp_path, caplog):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.effect_noise((8, 4), 80).save(tmp_path / name / "0.png")
    prepared = prepare(tmp_path, trim=True)
    assert prepared.pool.canvas == Canvas(fit="pad", trim=True)
    assert prepared.record["fit_because"] == "what is trimmed is padded"
    assert "has anything transparent, so that trim=True changes none" in caplog.text
