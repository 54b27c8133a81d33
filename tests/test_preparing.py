"""A messy folder becomes a pool that can be trained on, and a record says what was left out and why."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from tiffs import tiff_of_bands

from dag_diffusion.data.images import UnreadableImageError
from dag_diffusion.data.pools import read_pool
from dag_diffusion.data.preparing import inspection
from dag_diffusion.data.preparing.duplicates import find_twins
from dag_diffusion.data.preparing.prepared import CACHE, prepare


def drawing(seed, size=(12, 12)):
    """A black drawing on nothing."""
    pixels = np.zeros((*size, 4), np.uint8)
    pixels[..., 3] = np.random.default_rng(seed).integers(0, 256, size)
    return Image.fromarray(pixels)


@pytest.fixture
def messy(tmp_path):
    """Three classes with everything that is odd in one of them, and a fourth with a single image."""
    folder = tmp_path / "own images"
    for label, name in enumerate(("bird", "café", "tool box")):
        (folder / name / "more" / "deep").mkdir(parents=True)
        for index in range(4):
            place = folder / name / ("more/deep" if index == 3 else "") / f"{index}.png"
            drawing(10 * label + index, (12, 8)).save(place)
    (folder / "lone").mkdir()
    drawing(99).save(folder / "lone" / "0.png")
    Image.open(folder / "bird" / "0.png").save(folder / "bird" / "0 copy.webp", lossless=True, exact=True)
    (folder / "café" / "link.png").symlink_to("../bird/1.png")
    shutil.copy(folder / "bird" / "2.png", folder / "tool box" / "twin.png")
    Image.new("RGBA", (9, 9), (0, 0, 0, 0)).save(folder / "café" / "nothing.png")
    Image.new("RGB", (9, 9), "red").save(folder / "café" / "red.png")
    (folder / "tool box" / "cut.png").write_bytes((folder / "bird" / "0.png").read_bytes()[:90])
    (folder / "tool box" / "text.jpg").write_text("no image")
    return folder


def names(pool):
    return [row["file_name"] for row in pool.rows]


def test_what_cannot_be_trained_on_is_left_out_and_recorded(messy, caplog):
    prepared = prepare(messy, skip_unreadable=True, least=2)
    out = prepared.record["left_out"]
    assert sorted(out["unreadable"]) == ["tool box/cut.png", "tool box/text.jpg"]
    assert out["vanished"] == ["café/nothing.png"]
    assert out["twins_across_classes"] == [["bird/1.png", "café/link.png"], ["bird/2.png", "tool box/twin.png"]]
    assert out["copies"] == [["bird/0 copy.webp", "bird/0.png"]]
    assert out["small_classes"] == {"lone": 1}
    assert prepared.record["one_colour"] == ["café/red.png"]
    assert prepared.record["links"] == {"all": 1, "into_other_classes": 1}
    assert prepared.record["classes"] == {"café": 5, "tool box": 4, "bird": 2}
    assert names(prepared.pool)[:2] == ["bird/0 copy.webp", "bird/more/deep/3.png"]
    assert len(prepared.pool) == prepared.record["kept"] == 11
    for told in ("2 of 20 images cannot be read", "1 of 20 images are nothing but white", "4 images are 2 pictures"):
        assert told in caplog.text
    json.dumps(prepared.record, allow_nan=False)


def test_unreadable_images_are_named_all_at_once(messy):
    with pytest.raises(UnreadableImageError, match=r"2 of 20 .*cut\.png.*text\.jpg.*skip_unreadable=True"):
        prepare(messy)


def test_record_is_written_beside_what_was_made_of_the_images(messy, tmp_path):
    prepared = prepare(messy, skip_unreadable=True)
    prepared.save(tmp_path / "output")
    assert json.loads((tmp_path / "output" / "images.json").read_text("utf-8")) == prepared.record


def test_black_drawings_vanish_on_black_and_not_on_white(messy):
    options = {"skip_unreadable": True, "twins": "keep"}
    assert len(prepare(messy, **options).record["left_out"]["vanished"]) == 1
    with pytest.raises(ValueError, match=r"no class of .* has 5 images that can be used: of \d+ images \d+ "):
        prepare(messy, background="black", least=5, **options)
    assert len(prepare(messy, background="#000001", **options).record["left_out"]["vanished"]) == 1


def test_picture_that_is_linked_to_from_another_class_may_stay_where_its_file_lies(messy, caplog):
    prepared = prepare(messy, links="real", skip_unreadable=True)
    left_out = prepared.record["left_out"]
    assert left_out["links_into_other_classes"] == {"café/link.png": "bird/1.png"}
    assert left_out["twins_across_classes"] == [["bird/2.png", "tool box/twin.png"]]  # two files, neither a link
    assert "bird/1.png" in names(prepared.pool)
    assert "café/link.png" not in names(prepared.pool)
    assert prepared.record["kept"] == prepare(messy, skip_unreadable=True).record["kept"] + 1
    assert "1 links into other classes are left out, and their 1 pictures kept" in caplog.text
    assert "links='real' keeps those" in caplog.text  # the second call, which asked for nothing, says how
    with pytest.raises(ValueError, match="links is 'file'; use 'real'"):
        prepare(messy, links="file")
    with pytest.raises(ValueError, match=r"no class of .* 1 are links into other classes"):
        prepare(messy, links="real", least=9, skip_unreadable=True)


def test_links_of_which_the_files_are_of_two_classes_stay_left_out(tmp_path):
    for name in ("cat", "dog", "owl"):
        (tmp_path / name).mkdir()
        drawing(len(name) + ord(name[0])).save(tmp_path / name / "own.png")
    drawing(1).save(tmp_path / "cat" / "real.png")
    shutil.copy(tmp_path / "cat" / "real.png", tmp_path / "dog" / "real.png")
    (tmp_path / "owl" / "link.png").symlink_to("../cat/real.png")
    left_out = prepare(tmp_path, links="real").record["left_out"]
    assert left_out["links_into_other_classes"] == {}
    assert left_out["twins_across_classes"] == [["cat/real.png", "dog/real.png", "owl/link.png"]]


def test_twins_may_be_refused_or_kept(messy):
    with pytest.raises(ValueError, match=r"2 images of .* in two classes or more, such as bird/1\.png = café/"):
        prepare(messy, twins="refuse", skip_unreadable=True)
    kept = prepare(messy, twins="keep", skip_unreadable=True)
    assert len(kept.pool) == 17
    assert [[names(kept.pool)[row] for row in group] for group in kept.twins] == [
        ["bird/0 copy.webp", "bird/0.png"],
        ["bird/1.png", "café/link.png"],
        ["bird/2.png", "tool box/twin.png"],
    ]


def test_classes_may_be_chosen_and_twins_outside_of_them_do_not_count(messy):
    prepared = prepare(messy, classes="bird; cafe\N{COMBINING ACUTE ACCENT}", skip_unreadable=True)
    assert prepared.record["classes"] == {"café": 5, "bird": 3}
    assert prepare(messy, classes=["bird", "café"], skip_unreadable=True).record == prepared.record
    with pytest.raises(ValueError, match="'fish'"):
        prepare(messy, classes="bird;fish")
    with pytest.raises(ValueError, match="has no label 7"):
        prepare(messy, classes="7")
    with pytest.raises(ValueError, match="of the classes lone fewer images can be used than the 2"):
        prepare(messy, classes="bird;lone", least=2)


def test_most_takes_images_of_each_class_at_random_by_their_names(messy):
    three = [names(prepare(messy, most=3, seed=seed, skip_unreadable=True).pool) for seed in (0, 0, 1)]
    assert three[0] == three[1] != three[2]
    assert prepare(messy, most=3, skip_unreadable=True).record["left_out"]["above_most"] == {"café": 2, "tool box": 1}


@pytest.mark.parametrize("name", ["most", "least"])
def test_impossible_numbers_are_refused_before_an_image_is_looked_at(messy, name):
    with pytest.raises(ValueError, match=f"{name} is 0"):
        prepare(messy, **{name: 0})  # of which two cannot be read


def test_nothing_is_decoded_twice_and_what_changed_is(messy, tmp_path, monkeypatch):
    before = prepare(messy, skip_unreadable=True, cache=tmp_path).record
    looked_at, plain = [], inspection._look
    monkeypatch.setattr(inspection, "_look", lambda pool, i: looked_at.append(names(pool)[i]) or plain(pool, i))
    assert prepare(messy, skip_unreadable=True, cache=tmp_path).record == before
    assert set(looked_at) == {"tool box/cut.png", "tool box/text.jpg"}  # which may have been restored
    looked_at.clear()
    drawing(7).save(messy / "bird" / "0.png")
    os.utime(messy / "bird" / "0.png", ns=(1, 1))
    assert prepare(messy, skip_unreadable=True, cache=tmp_path).record["left_out"]["copies"] == []
    assert "bird/0.png" in looked_at
    looked_at.clear()
    (tmp_path / CACHE).write_text("[]")
    assert prepare(messy, skip_unreadable=True, cache=tmp_path).record["kept"] == before["kept"] + 1
    assert len(looked_at) == 19  # all but the link


def test_looks_at_other_images_of_the_same_names_sizes_and_times_are_not_taken(tmp_path):
    pictures = [np.random.default_rng(seed).integers(0, 256, (16, 16), np.uint8) for seed in (0, 1)]
    for place, seeds in (("first", (0, 0)), ("second", (0, 1))):
        (tmp_path / place / "cat").mkdir(parents=True)
        for number, seed in enumerate(seeds):
            Image.fromarray(pictures[seed]).save(tmp_path / place / "cat" / f"{number}.bmp")
            os.utime(tmp_path / place / "cat" / f"{number}.bmp", (1, 1))
    found = [prepare(tmp_path / place, cache=tmp_path / "work").record["left_out"] for place in ("first", "second")]
    assert [len(one["copies"]) for one in found] == [1, 0]


def test_photographs_are_cropped_and_drawings_or_strips_padded_unasked(tmp_path):
    for name, make in {
        "photographs": lambda i: Image.effect_noise((15 + i, 10), 50),
        "strips": lambda i: Image.effect_noise((30 + i, 10), 50),
        "drawings": drawing,
    }.items():
        (tmp_path / name / "a").mkdir(parents=True)
        for index in range(3):
            make(index).save(tmp_path / name / "a" / f"{index}.png")
    found = {name: prepare(tmp_path / name) for name in ("photographs", "strips", "drawings")}
    assert {name: one.pool.canvas.fit for name, one in found.items()} == {
        "photographs": "crop",
        "strips": "pad",
        "drawings": "pad",
    }
    assert found["strips"].pool.open(0).size == (30, 30)
    assert "3 of 3 images are transparent" in found["drawings"].record["fit_because"]
    assert prepare(tmp_path / "drawings", fit="stretch").record["fit"] == "stretch"


def test_pages_and_frames_after_the_first_are_told(tmp_path, caplog):
    (tmp_path / "moving").mkdir()
    for seed, (name, kind) in enumerate([("walk", "gif"), ("stack", "tif"), ("wave", "webp"), ("spark", "png")]):
        frames = [drawing(seed).getchannel("A"), drawing(40 + seed).getchannel("A")]
        frames[0].save(tmp_path / "moving" / f"{name}.{kind}", save_all=True, append_images=frames[1:])
    (tmp_path / "still").mkdir()
    drawing(90).save(tmp_path / "still" / "a.png")
    photo, gain = (drawing(seed).getchannel("A") for seed in (91, 92))
    photo.save(tmp_path / "still" / "phone.jpg", "MPO", save_all=True, append_images=[gain])
    whole = (tmp_path / "moving" / "walk.gif").read_bytes()
    (tmp_path / "still" / "torn.gif").write_bytes(whole[: len(whole) - 20])
    record = prepare(tmp_path, twins="keep").record
    told = {name for name in record["several_frames"] if name != "still/torn.gif"}
    assert told == {"moving/walk.gif", "moving/stack.tif", "moving/wave.webp", "moving/spark.png"}
    assert record["kept"] == 7
    assert "of 7 images have several pages or frames; the first is taken: moving/spark.png" in caplog.text


def test_images_of_sixteen_bits_that_are_all_but_black_are_told(tmp_path, caplog):
    levels = np.arange(16 * 16, dtype=np.uint16).reshape(16, 16)
    images = {"scan/twelve bits.png": 16 * levels, "scan/all bits.png": 257 * levels, "black/0.png": 0 * levels}
    images["black/1.png"] = 255 * (levels % 2).astype(np.uint8)  # of eight bits
    for name, pixels in images.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / name)
    record = prepare(tmp_path).record
    assert record["faint"] == ["scan/twelve bits.png"]
    assert "1 of 4 images have 16 bits and use 12 of them or fewer, so that they come out nearly black" in caplog.text


@pytest.mark.parametrize(("factor", "faint"), [(12, True), (257, False)])
def test_colours_of_sixteen_bits_that_are_all_but_black_are_told(tmp_path, factor, faint):
    colours = np.random.default_rng(0).integers(0, 256, (16, 16, 3))
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan/0.tif").write_bytes(tiff_of_bands((factor * colours).astype(np.uint16)))
    Image.fromarray((colours // 20).astype(np.uint8)).save(tmp_path / "scan/1.png")  # as dark, of eight bits
    record = prepare(tmp_path).record
    assert record["faint"] == (["scan/0.tif"] if faint else [])


def test_equal_sketches_are_no_equal_pixels(tmp_path):
    (tmp_path / "a").mkdir()
    for index in range(2):
        pixels = np.zeros((200, 200), np.uint8)
        pixels[100, 100 + index] = 255  # beside what the sketch looks at
        Image.fromarray(pixels).save(tmp_path / "a" / f"{index}.png")
    pool = read_pool(tmp_path)
    looks = inspection.looks_of(pool)
    assert looks[0].sketch == looks[1].sketch
    assert find_twins(pool, looks).groups == []


def test_images_of_a_dataset_are_compared_too(messy):
    pool = read_pool(messy)
    encoded = [(messy / name).read_bytes() for name in names(pool)]
    rows = [row | {"file_name": f"{index}.png"} for index, row in enumerate(pool.rows)]
    in_memory = prepare(type(pool)(pool.path, rows, encoded=encoded), skip_unreadable=True)
    assert in_memory.record["kept"] == prepare(messy, skip_unreadable=True).record["kept"]
    assert in_memory.record["links"] == {"all": 0, "into_other_classes": 0}


def test_what_is_tested_on_is_not_trained_on_whatever_it_is_called(messy, tmp_path, caplog):
    (test := tmp_path / "test" / "bird").mkdir(parents=True)
    Image.open(messy / "bird" / "more" / "deep" / "3.png").save(test / "renamed.webp", lossless=True, exact=True)
    drawing(7, (12, 8)).save(test / "another.png")
    (test / "cut.png").write_bytes(b"")
    options = {"skip_unreadable": True, "apart_from": read_pool(tmp_path / "test"), "cache": tmp_path}
    for _ in range(2):
        prepared = prepare(messy, **options)
        assert prepared.record["left_out"]["also_tested_on"] == ["bird/more/deep/3.png"]
        assert "bird/more/deep/3.png" not in names(prepared.pool)
    assert "1 of 20 images are tested on" in caplog.text
