"""Any format that Pillow opens, by its suffix in a folder and by its bytes in a table."""

import io

import pytest
from PIL import Image

from dag_diffusion.data.images import image_suffixes, suffix_of


def encoded(name: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(buffer, format=name)  # no ICO is smaller
    return buffer.getvalue()


def test_pictures_are_read_and_containers_of_other_data_are_not():
    assert {
        ".png",
        ".jpg",
        ".jpeg",
        ".jfif",
        ".webp",
        ".tif",
        ".gif",
        ".bmp",
        ".tga",
        ".jp2",
        ".ppm",
    } <= image_suffixes()
    assert not {".pdf", ".mpg", ".mpeg", ".h5", ".hdf", ".grib", ".bufr", ".wmf", ".txt", ""} & image_suffixes()


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA", "JPEG2000", "ICO"])
def test_suffix_comes_from_the_bytes_and_is_one_that_is_read(name):
    assert Image.registered_extensions()[suffix_of(encoded(name))] == name
    assert suffix_of(encoded(name)) in image_suffixes()


def test_picture_of_a_stereo_camera_is_an_ordinary_jpeg():
    buffer, image = io.BytesIO(), Image.new("RGB", (8, 8))
    image.save(buffer, format="MPO", save_all=True, append_images=[image])
    assert suffix_of(buffer.getvalue()) == ".jpeg"


@pytest.mark.parametrize("data", [b"", b"no image", b"\x89PNG\r\n", b"%PDF-1.4"])
def test_bytes_that_are_no_image_are_refused(data):
    with pytest.raises(ValueError, match="not an image"):
        suffix_of(data)
