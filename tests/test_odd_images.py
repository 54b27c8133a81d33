"""Pictures that viewers show and Pillow stumbles over: read whole, or named so that a run can go on without them."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile
from tiffs import tiff_of_bands
from tiny import tiny_classifier

from dag_diffusion.data.images import UnreadableImageError, as_eight_bit, decoded, header_of, readable
from dag_diffusion.data.pools import read_pool
from dag_diffusion.sampling.scoring import score_pool

NAMES = {0: "cat", 1: "dog", 2: "owl"}


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*before, after=(), depth=8, raw=b"\0\x07\x07" * 2, size=(2, 2)):
    """A grey PNG with further chunks before or after its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(raw))
    return b"".join((b"\x89PNG\r\n\x1a\n", header, *before, pixels, *after, chunk(b"IEND", b"")))


def jpeg(orientation, size=(32, 24), more=b"", count=1):
    """A JPEG that is to be turned, with further EXIF entries (12 bytes each) after the orientation."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(buffer, "JPEG")
    entries = struct.pack("<HHIHH", 0x112, 3, 1, orientation, 0) + more
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, count) + entries + struct.pack("<I", 0) + struct.pack("<ii", -1, 3)
    data = buffer.getvalue()
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


LARGE_WORDS = zlib.compress(b"a" * (3 << 20))
MINUS_A_THIRD = struct.pack("<HHII", 0x11A, 10, 1, 38)  # a resolution that Pillow reads and cannot write again


@pytest.mark.parametrize(
    "data",
    [
        png(chunk(b"iCCP", b"k\0\0" + LARGE_WORDS)),
        png(chunk(b"zTXt", b"k\0\0" + LARGE_WORDS)),
        png(after=[chunk(b"zTXt", b"k\0\0" + LARGE_WORDS)]),
        png(*[chunk(b"zTXt", b"k\0\0" + zlib.compress(b"a" * (1 << 20)))] * 65),
        png(chunk(b"eXIf", b"no record")),
    ],
    ids=["profile", "comment", "comment after the pixels", "many comments", "broken EXIF"],
)
def test_what_stands_beside_the_pixels_keeps_no_picture_from_being_read(data, tmp_path):
    (tmp_path / "a.png").write_bytes(data)
    for source in (data, tmp_path / "a.png"):
        seen = []
        assert as_eight_bit(decoded(source, seen.append), 1).tolist() == [[[7], [7]], [[7], [7]]]
        assert len(seen) == 1
        assert header_of(source) == (2, 2, True)


@pytest.mark.parametrize("more", [b"", MINUS_A_THIRD], ids=["plain", "with a fraction that Pillow cannot write"])
@pytest.mark.parametrize("orientation", range(10))
def test_photograph_stands_upright_whatever_else_its_record_holds(orientation, more):
    data = jpeg(orientation, more=more, count=1 + bool(more))
    image, plain = decoded(data), decoded(jpeg(1))
    turned = as_eight_bit(image, 3)
    assert header_of(data)[:2] == turned.shape[:2] == ((32, 24) if 5 <= orientation <= 8 else (24, 32))
    expected = {3: plain.rotate(180), 6: plain.rotate(-90, expand=True), 8: plain.rotate(90, expand=True)}
    if orientation in expected:
        assert np.array_equal(turned, np.asarray(expected[orientation]))


SIX = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x112, 3, 1, 6, 0, 0)  # a record that turns an image by a quarter
XMP = b"XML:com.adobe.xmp\0\0\0\0\0" + b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"/>'
WIDE = {"size": (4, 2), "raw": (b"\0" + b"\x07" * 4) * 2}


@pytest.mark.parametrize("record", [chunk(b"eXIf", SIX), chunk(b"iTXt", XMP)], ids=["EXIF", "XMP"])
@pytest.mark.parametrize("place", ["before", "after"])
def test_header_of_a_png_is_that_of_the_picture_wherever_it_says_how_it_is_turned(record, place, tmp_path):
    data = png(record, **WIDE) if place == "before" else png(after=[record], **WIDE)
    (tmp_path / "a.png").write_bytes(data)
    assert decoded(data).size == (2, 4)
    assert header_of(data) == header_of(tmp_path / "a.png") == (4, 2, True)


def test_headers_are_read_without_the_pixels(monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    assert header_of(png(after=[chunk(b"tEXt", b"date:create\x002026")], **WIDE)) == (2, 4, True)
    assert header_of(jpeg(6)) == (32, 24, False)


def test_sixteen_bits_are_transparent_as_eight_are():
    row = b"\0" + struct.pack(">2H", 0, 257 * 100)
    values = as_eight_bit(decoded(png(chunk(b"tRNS", b"\0\0"), depth=16, raw=row * 2)), 1)
    assert values[0].tolist() == [[255], [100]]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "I;16", "F"])
def test_every_mode_converts(mode):
    buffer = io.BytesIO()
    Image.new(mode, (3, 2)).save(buffer, "TIFF")
    image = decoded(buffer.getvalue())
    assert [as_eight_bit(image, channels).shape for channels in (1, 3)] == [(2, 3, 1), (2, 3, 3)]


def tiff(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "values",
    [
        np.array([[0, 100.0 / 255, 1]], np.float32),
        np.array([[0, 100.2, 255]], np.float32),
        np.array([[0, 25_700, 65_535]], np.float32),
        np.array([[0, 25_700, 65_535]], np.int32),
        np.array([[0, 25_700, 65_535]], np.uint16),
        np.array([[0, 25_700, 65_535]], ">u2"),
    ],
    ids=lambda values: f"{values.dtype}-{values.max():g}",
)
def test_numbers_without_a_stated_white_have_the_range_that_they_fill(values):
    assert as_eight_bit(decoded(tiff(values)), 1).ravel().tolist() == [0, 100, 255]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_planes_are_read_or_refused_and_never_misread(kind):
    bands = np.random.default_rng(0).integers(0, 256, (8, 6, 3)).astype(kind)
    stored = bands * kind(257 if kind is np.uint16 else 1)
    assert np.array_equal(as_eight_bit(decoded(tiff_of_bands(stored)), 3), bands)
    if kind is np.uint8:
        assert np.array_equal(as_eight_bit(decoded(tiff_of_bands(stored, planar=True)), 3), bands)
    else:
        with pytest.raises(ValueError, match="planes of 16 bits without compression, which Pillow misreads: save it"):
            decoded(tiff_of_bands(stored, planar=True))


@pytest.mark.parametrize(("kind", "sample_format"), [(np.uint32, 1), (np.float32, 3)])
def test_one_band_of_32_bits_is_read_as_a_plane_too(kind, sample_format):
    bands = np.linspace(0, 65_535, 48).reshape(8, 6, 1).astype(kind)
    assert np.array_equal(
        np.asarray(decoded(tiff_of_bands(bands, sample_format, planar=True))),
        np.asarray(decoded(tiff_of_bands(bands, sample_format))),
    )


@pytest.mark.parametrize(
    ("bands", "sample_format", "told"),
    [
        (np.ones((8, 8, 13), np.uint16), 1, "13 x 16 bits"),  # as of Sentinel-2
        (np.ones((8, 8, 3), np.float32), 3, "3 x 32 bits"),
        (np.ones((8, 8, 1), np.float64), 3, "1 x 64 bits"),
    ],
)
@pytest.mark.parametrize("form", [bytes, Path])
def test_whole_tiff_that_pillow_does_not_read_is_told_as_what_it_is(tmp_path, capfd, bands, sample_format, told, form):
    data = tiff_of_bands(bands, sample_format)
    (tmp_path / "0.tif").write_bytes(data)
    with (
        pytest.raises(UnreadableImageError, match=f"0.tif is not .* TIFF of {told} .* save one band, or three, as PNG"),
        readable(tmp_path / "0.tif"),
    ):
        decoded(data if form is bytes else tmp_path / "0.tif")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        (np.int32, [0, 200]),
        (np.uint16, [0, 255]),
        (np.int32, [-1, 9999]),
        (np.float32, [0, 1]),
        (np.float32, [0, np.nan]),
        (np.int32, [0, 70_000]),
    ],
)
def test_numbers_of_no_certain_range_are_refused_with_the_way_out(tmp_path, kind, numbers):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "0.tif").write_bytes(tiff(np.array([numbers], kind)))
    with pytest.raises(UnreadableImageError, match=r"0\.tif is not a readable image \(values .* save it with 8 bits\)"):
        read_pool(tmp_path).open(0)


def test_header_that_breaks_off_is_told_as_such():
    message = r"0\.ppm is not a readable image \(Reached EOF while reading header\)"
    with pytest.raises(UnreadableImageError, match=message), readable("0.ppm"):
        decoded(b"P6 1")


@pytest.mark.parametrize("error", [struct.error("x"), zlib.error("x"), KeyError(3), RecursionError(), SyntaxError("x")])
def test_whatever_a_plug_in_raises_names_the_file(error):
    with pytest.raises(UnreadableImageError, match=r"cat/1\.png is not a readable image"), readable("cat/1.png"):
        raise error


@pytest.fixture
def odd_pool(tmp_path):
    for name in NAMES.values():
        (tmp_path / name).mkdir()
        Image.new("RGB", (16, 16), "red").save(tmp_path / name / "0.png")
    (tmp_path / "cat" / "turned.jpg").write_bytes(jpeg(6, more=MINUS_A_THIRD, count=2))
    (tmp_path / "cat" / "cut.jpg").write_bytes(jpeg(1, size=(300, 300))[:900])
    (tmp_path / "dog" / "dot.png").write_bytes(png(raw=b"\0\x07", size=(1, 1)))
    Image.new("RGB", (60_000, 1)).save(tmp_path / "owl" / "strip.png")
    return tmp_path


def test_skipping_skips_what_cannot_be_read_or_fitted_and_nothing_else(odd_pool, caplog, monkeypatch):
    monkeypatch.setattr("dag_diffusion.data.images.MOST_FITTED", 1_000_000)  # the classifier's images are small too
    scores = score_pool(read_pool(odd_pool), tiny_classifier(NAMES), on_error="skip")
    assert scores.skipped == ["cat/cut.jpg", "owl/strip.png"]
    assert "too thin" in caplog.text
    assert np.isfinite(scores.difficulties).sum() == 5


def test_strip_is_named_before_its_memory_is_asked_for(tmp_path):
    for name in NAMES.values():
        (tmp_path / name).mkdir()
        Image.new("RGB", (60_000 if name == "cat" else 16, 1)).save(tmp_path / name / "strip.png")
    classifier = tiny_classifier(NAMES)
    classifier.config.preprocessing = {**classifier.config.preprocessing, "height": 224, "width": 224}
    with pytest.raises(UnreadableImageError, match=r"cat/strip\.png .*too thin"):
        score_pool(read_pool(tmp_path), classifier)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_tiff_whose_zero_is_white_is_no_negative(tmp_path, kind):
    grey = np.linspace(0, 255, 64).round().astype(np.uint8).reshape(8, 8)
    stored = ((255 - grey.astype(int)) * (257 if kind is np.uint16 else 1)).astype(kind)
    Image.fromarray(stored).save(tmp_path / "x.tif")
    data = (tmp_path / "x.tif").read_bytes()
    entry = struct.pack("<HHI", 262, 3, 1)  # PhotometricInterpretation
    place = data.index(entry) + len(entry)
    (tmp_path / "x.tif").write_bytes(data[:place] + b"\0\0" + data[place + 2 :])
    assert np.array_equal(as_eight_bit(decoded(tmp_path / "x.tif"), 1)[..., 0], grey)
