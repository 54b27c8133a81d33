"""What all images of a folder are brought to: by all of them, whichever comes first."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dag_diffusion.data.canvas import Canvas
from dag_diffusion.data.common_kind import _kind_of, common_kind
from dag_diffusion.data.images import Header, UnreadableImageError
from dag_diffusion.data.pools import read_pool
from dag_diffusion.evaluation.runs import EvaluationConfig, evaluate_folders

HEADERS = st.lists(st.builds(Header, st.integers(1, 4), st.integers(1, 4), st.booleans()), min_size=1, max_size=12)


def write(folder, images):
    for name, image in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(folder / name)
    return folder


@given(HEADERS, st.randoms())
def test_neither_size_nor_channels_depend_on_the_order(headers, random):
    shuffled = random.sample(headers, len(headers))
    assert _kind_of(headers) == _kind_of(shuffled)


@given(HEADERS)
def test_size_is_that_of_half_of_the_images_or_a_square_and_one_coloured_image_gives_colours(headers):
    kind = _kind_of(headers)
    sizes = [header[:2] for header in headers]
    assert 2 * sizes.count(kind.size) >= len(sizes) or kind.size[0] == kind.size[1]
    assert kind.channels == (1 if all(header.grey for header in headers) else 3)
    assert bool(kind.mixed_sizes) == any(size != kind.size for size in sizes)
    assert bool(kind.mixed_colours) == (len({header.grey for header in headers}) > 1)


def test_sizes_are_those_that_are_shown(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6
    wide = Image.new("RGB", (6, 4))
    write(tmp_path, {"a/0.png": wide, "a/1.png": wide})
    wide.save(tmp_path / "a/2.jpg", exif=exif)
    kind = common_kind(read_pool(tmp_path))
    assert (kind.size, kind.sizes, kind.of_that_size) == ((4, 6), 2, 2)


def test_file_that_is_no_image_is_named(tmp_path):
    write(tmp_path, {"a/0.png": Image.new("L", (4, 4))})
    (tmp_path / "a" / "1.png").write_bytes(b"no image")
    with pytest.raises(UnreadableImageError, match=r"1\.png"):
        common_kind(read_pool(tmp_path))


def test_size_that_few_images_happen_to_have_is_told_as_the_median(tmp_path):
    for side in (4, 5, 6):
        write(tmp_path, {f"a/{side}.png": Image.new("L", (side, side))})
    assert common_kind(read_pool(tmp_path)).mixed_sizes == (
        "3 images have 3 sizes and are brought to 5 x 5 pixels, by their median shorter side; size=N chooses another"
    )


def coloured(folder, per_class, seed):
    """Two classes that colour alone tells apart."""
    noise = np.random.default_rng(seed)
    for name, colour in {"brick": (200, 60, 60), "leaf": (50, 137, 50)}.items():
        for index in range(per_class):
            pixels = np.clip(colour + noise.normal(0, 12, (8, 8, 3)), 0, 255).astype(np.uint8)
            write(folder, {f"{name}/{index}.png": Image.fromarray(pixels)})
    return folder


def test_one_odd_test_image_that_comes_first_does_not_spoil_the_others(tmp_path, caplog):
    trained, test = coloured(tmp_path / "set", 6, 0), coloured(tmp_path / "test", 10, 1)
    Image.open(test / "brick" / "0.png").convert("L").resize((2, 3)).save(test / "brick" / "0.png")
    config = EvaluationConfig("quick", networks=["convnet-1-w4"], seeds=[0])
    results, _ = evaluate_folders([str(trained)], config, test=test)
    assert results[0].accuracy >= 0.95
    assert "1 of 20 images are grey" in caplog.text
    assert "20 images have 2 sizes and are brought to 8 x 8 pixels, as 19 are; size=N" in caplog.text


def test_folder_with_training_images_alone_is_no_test_unsaid(tmp_path, caplog):
    coloured(tmp_path / "data" / "train", 6, 0)
    config = EvaluationConfig("quick", networks=["convnet-1-w4"], seeds=[0])
    evaluate_folders([str(tmp_path / "data")], config, test=tmp_path / "data")
    assert "data has no other split than train, whose images are not to test on" in caplog.text


def test_set_of_other_classes_is_refused_before_test_images_are_read(tmp_path):
    trained, seen = coloured(tmp_path / "set", 6, 0), []
    with pytest.raises(ValueError, match="so name some by test=FOLDER"):
        evaluate_folders([str(trained)], EvaluationConfig(), progress=lambda *stage: seen.append(stage))
    assert seen == []


def test_padded_images_are_squares_to_the_evaluator_too(tmp_path, caplog):
    trained, test = coloured(tmp_path / "set", 6, 0), coloured(tmp_path / "test", 10, 1)
    for file in (*sorted(trained.glob("*/*.png")), *sorted(test.glob("*/*.png"))):
        Image.open(file).crop((0, 0, 8, 3)).save(file)
    canvas, config = Canvas(fit="pad"), EvaluationConfig("quick", networks=["convnet-1-w4"], seeds=[0])
    assert common_kind(read_pool(test, canvas=canvas)).size == (8, 8)
    results, _ = evaluate_folders([str(trained)], config, test=test, canvas=canvas)
    assert "sizes" not in caplog.text
    assert results[0].accuracy >= 0.9
