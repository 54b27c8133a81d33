"""What a reader of the report notices: everything is there, in order, and nothing in it is taken for markup."""

import base64
import io
import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from dag_diffusion.data.pools import Pool
from dag_diffusion.evaluation.tables import Table
from dag_diffusion.reporting.difficulty_figures import cumulative, save_grid_png, save_histogram_png
from dag_diffusion.reporting.figures import INK, Series, log_odds
from dag_diffusion.reporting.report import write_report
from dag_diffusion.reporting.selection import DASH
from dag_diffusion.reporting.sets import ReportedSet
from dag_diffusion.reporting.thumbnails import images_per_class

HOSTILE = "<script>alert(1)</script>"
QUOTED = """" onload="alert(2)' onclick='"""


def make_pool(folder, *, classes=("coat", "bag"), per_class=4, targets=False, image=None, seed=0):
    """Images in random order of difficulty, each of its own brightness."""
    rng, rows = np.random.default_rng(seed), []
    for label, name in enumerate(classes):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            file_name = f"{label}/{i:05d}.png"
            (image or Image.new("L", (8, 8), int(rng.integers(256)))).save(folder / file_name)
            row = {"file_name": file_name, "label": label, "class_name": name, "seed": 1000 + i}
            target = float(rng.uniform()) if targets else None
            rows.append({**row, "target_difficulty": target, "difficulty": float(rng.uniform())})
    return Pool(folder, rows)


class Page(HTMLParser):
    """The elements of a page, each with its attributes, its text and its enclosing section's heading."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, path):
        super().__init__()
        self.elements, self.open, self.source = [], [], path.read_text("utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.elements.append({"tag": tag, "text": "", **dict(attrs)})
        if tag not in self.VOID:
            self.open.append(self.elements[-1])

    def handle_startendtag(self, tag, attrs):
        self.elements.append({"tag": tag, "text": "", **dict(attrs)})

    def handle_endtag(self, tag):
        while self.open and self.open.pop()["tag"] != tag:
            pass

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def all(self, tag, **attributes):
        found = [element for element in self.elements if element["tag"] == tag]
        return [one for one in found if all(one.get(name.strip("_")) == value for name, value in attributes.items())]

    @property
    def text(self):
        return " ".join(self.all("body")[0]["text"].split())

    @property
    def rows_of_images(self):
        """For each class of each set, the hover texts of its images from left to right."""
        rows = []
        for element in self.elements:
            if element["tag"] == "ul" and element.get("class") == "strip":
                rows.append([])
            if element["tag"] == "li" and "aria-label" in element:
                rows[-1].append(element["aria-label"])
        return rows

    @property
    def images(self):
        sources = [element["src"].partition(";base64,")[2] for element in self.all("img")]
        return [Image.open(io.BytesIO(base64.b64decode(source))) for source in sources]


def difficulty(hover):
    return float(re.match(r"d = ([\d.e-]+)", hover)[1])


@pytest.fixture
def report(tmp_path):
    """Write a report of one pool, with whatever the test asks for besides; give it back parsed."""

    def write(pool=None, **options):
        pool = make_pool(tmp_path / "pool") if pool is None else pool
        defaults = {
            "title": "A run",
            "reference": {name: np.linspace(0, 1, 20) for name in pool.class_names.values()},
            "pools": [ReportedSet("unguided", pool)],
            "selected": [],
        }
        return Page(write_report(tmp_path / "out" / "report.html", **(defaults | options)))

    return write


def test_report_fetches_nothing(report, tmp_path):
    page = report(
        make_pool(tmp_path / "pool", targets=True), commands=["dag-diffusion generate"], provenance={"seed": 0}
    )
    assert "://" not in page.source
    assert not page.all("link")
    links = [value for one in page.elements for key, value in one.items() if key in {"src", "href", "xlink:href"}]
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in links)
    assert page.all(
        "meta", content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    )


def test_every_link_inside_the_page_has_an_end(report, tmp_path):
    page = report(make_pool(tmp_path / "pool", targets=True), provenance={"seed": 0}, tables=[Table("t", ["a"], [])])
    ids = [one["id"] for one in page.elements if "id" in one]
    wanted = {one.get("href", one.get("xlink:href")) for one in page.elements} - {None}
    wanted |= set(re.findall(r"url\((#[^)]+)\)", page.source))
    assert wanted <= {f"#{name}" for name in ids}


def test_figures_share_no_ids(report):
    page = report()
    ids = [one["id"] for one in page.elements if "id" in one]
    assert len(ids) == len(set(ids))


def test_every_class_appears_even_without_images(report):
    page = report(reference={"coat": np.array([0.1]), "sandal": np.array([0.2])})
    options = [one["text"] for one in page.all("option")]
    captions = [one["text"] for one in page.all("figcaption")]
    for name in ("coat", "bag", "sandal"):
        assert name in options
        assert name in captions


def test_class_filter_knows_every_filtered_part(report):
    page = report(tables=[Table("quotas", ("class", "wanted"), [("coat", 1), ("bag", 2)])])
    values = {one["value"] for one in page.all("option")} - {""}
    for tag in ("tr", "figure", "div"):
        assert {one["data-class"] for one in page.all(tag) if "data-class" in one} == values


@pytest.mark.parametrize("hostile", [HOSTILE, QUOTED, "a & b", "$x^2$", "{{ 7 * 7 }}", "]]><!--"])
def test_names_are_text_never_markup(report, tmp_path, hostile):
    pool = make_pool(tmp_path / "pool", classes=(hostile, "bag"), targets=True)
    page = report(
        pool,
        title=hostile,
        pools=[ReportedSet(hostile, pool, note=hostile)],
        tables=[Table(hostile, (hostile, "mean"), [(hostile, 0.5)], note=hostile)],
        provenance={hostile: hostile},
        commands=[hostile],
    )
    assert len(page.all("script")) == 1
    assert "alert" not in page.all("script")[0]["text"]
    assert not [key for one in page.elements for key in one if key.startswith("on")]
    assert page.all("h1")[0]["text"] == hostile
    assert page.all("title")[0]["text"] == hostile
    assert page.all("option")[1]["text"] == hostile
    assert page.all("img")[0]["alt"] == hostile
    assert page.all("pre")[0]["text"] == hostile
    shown = [one["text"].rstrip("…") for one in page.all("text")]
    assert any(text and hostile.startswith(text) for text in shown)  # the name of the set inside the figure


def test_hostile_file_name_stays_in_the_hover_text(report, tmp_path):
    pool = make_pool(tmp_path / "pool", classes=("coat",), per_class=1)
    name = """0/"><img src=x onerror='alert(1)'>.png"""
    (tmp_path / "pool" / pool.rows[0]["file_name"]).rename(tmp_path / "pool" / name)
    page = report(Pool(pool.path, [{**pool.rows[0], "file_name": name}]))
    assert len(page.all("img")) == 1
    assert name in page.rows_of_images[0][0]


def test_images_go_from_easy_to_hard(report, tmp_path):
    rows = report(make_pool(tmp_path / "pool", per_class=9)).rows_of_images
    assert len(rows) == 2
    for row in rows:
        assert len(row) == 9
        assert all(difficulty(left) <= difficulty(right) for left, right in pairwise(row))


def test_many_images_are_sampled_evenly_from_easiest_to_hardest(report, tmp_path):
    pool = make_pool(tmp_path / "pool", classes=("coat",), per_class=100)
    for rank, row in enumerate(pool.rows[::-1]):
        row["difficulty"] = rank / 99
    page = report(pool)
    shown = [difficulty(hover) for hover in page.rows_of_images[0]]
    assert shown == pytest.approx(np.linspace(0, 1, 12), abs=0.5 / 99)
    assert "12 of 100" in page.text


def test_hover_text_has_difficulty_and_target(report, tmp_path):
    pool = make_pool(tmp_path / "pool", classes=("coat",), per_class=1, targets=True)
    pool.rows[0] |= {"difficulty": 0.25, "target_difficulty": 0.125}
    page = report(pool)
    assert page.rows_of_images == [["d = 0.25, d* = 0.125\ncoat, 0/00000.png\nseed 1000"]]
    assert page.all("ul", class_="strip")[0]["text"].split() == [".250", ".125"]


def test_hover_text_of_untargeted_image_mentions_no_target(report, tmp_path):
    page = report(make_pool(tmp_path / "pool", targets=False))
    assert all("d*" not in hover for row in page.rows_of_images for hover in row)
    assert "below that its target" not in page.text


@pytest.mark.parametrize("target", [None, {}, {"coat": np.array([])}])
def test_without_target_the_reference_is_drawn_over_all(report, target):
    page = report(target=target)
    assert "the line repeats the reference" in page.text
    assert "target" not in [one["text"] for one in page.all("text")]


def test_target_is_drawn_over_all(report):
    page = report(target={"coat": np.array([0.1, 0.9])})
    assert "the line repeats the target" in page.text
    assert "target" in [one["text"] for one in page.all("text")]


def test_scatter_is_drawn_for_targeted_pools_only(report, tmp_path):
    plain, targeted = make_pool(tmp_path / "plain"), make_pool(tmp_path / "targeted", targets=True)
    page = report(pools=[ReportedSet("plain", plain), ReportedSet("targeted", targeted)])
    labels = [one["aria-label"] for one in page.all("svg") if "Target against" in one.get("aria-label", "")]
    assert labels == ["Target against achieved difficulty, targeted"]
    error = np.mean([abs(row["target_difficulty"] - row["difficulty"]) for row in targeted.rows])
    assert f"mean |d \N{MINUS SIGN} d*| = {error:.3f}" in page.text


def test_a_set_has_one_colour_throughout(report, tmp_path):
    pool = make_pool(tmp_path / "other", targets=True)
    page = report(
        pools=[ReportedSet("first", pool), ReportedSet("second", pool)], selected=[ReportedSet("third", pool)]
    )
    colours = {}
    for tag in ("li", "h2"):  # the legend, and the heading over the images
        for name in re.findall(rf'<{tag}[^>]*><i class="swatch" style="--color: ([^"]+)"></i>(\w+)', page.source):
            colours.setdefault(name[1], []).append(name[0])
    assert colours == {
        "reference": ["#8b949e"],
        "first": ["var(--set-0)"] * 2,
        "second": ["var(--set-1)"] * 2,
        "third": ["var(--set-2)"] * 2,
    }


def test_dark_pages_are_provided_for(report):
    page = report()
    assert "prefers-color-scheme: dark" in page.source
    assert "currentColor" in page.source
    assert "#24292f" not in page.source.split("</style>")[1]  # no figure brings its own black text


def test_accuracies_come_before_everything_else(report):
    rows = [
        ("random real", 0.7312, 5, None),
        ("DGS, guided pool", np.float32(0.5), 5, "[+5.5, +6.9]"),
        ("none", np.nan, 0, None),
    ]
    page = report(tables=[Table("Downstream accuracy", ("set", "mean", "n", "interval"), rows, note="five seeds")])
    tags = [one["tag"] for one in page.elements]
    assert tags.index("table") < tags.index("svg") < tags.index("img")
    cells = [one["text"] for one in page.all("td")][:12]  # further down is what is said of images of one colour
    assert cells == [
        "random real",
        "0.7312",
        "5",
        DASH,
        "DGS, guided pool",
        "0.5",
        "5",
        "[+5.5, +6.9]",
        "none",
        DASH,
        "0",
        DASH,
    ]
    assert [one.get("class") for one in page.all("th")][:4] == [None, "number", "number", "number"]
    assert "five seeds" in page.text


def test_table_refuses_a_row_of_another_length():
    with pytest.raises(ValueError, match=r"row 2 of table 'quotas' has 1 cells for 2 columns \(class, wanted\)"):
        Table("quotas", ("class", "wanted"), [("coat", 1), ("bag",)])


def test_provenance_is_folded_and_commands_are_whole(report):
    page = report(
        provenance={"guide": {"name": "résnet"}}, commands=["dag-diffusion generate a/", "dag-diffusion report a/"]
    )
    assert '"name": "résnet"' in page.all("details")[0]["text"]
    assert "open" not in page.all("details")[0]
    assert page.all("pre")[0]["text"] == "dag-diffusion generate a/\ndag-diffusion report a/"


def test_small_images_keep_their_pixels(report, tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8))
    page = report(make_pool(tmp_path / "pool", classes=("coat",), per_class=1, image=image))
    assert np.array_equal(np.asarray(page.images[0]), np.asarray(image))
    shown = page.all("img")[0]
    assert (shown["width"], shown["height"], shown["class"]) == ("56", "56", "pixelated")


@pytest.mark.parametrize(("size", "thumbnail"), [((300, 200), (96, 64)), ((96, 96), (96, 96)), ((2000, 10), (96, 1))])
def test_large_images_become_thumbnails(report, tmp_path, size, thumbnail):
    page = report(make_pool(tmp_path / "pool", classes=("coat",), per_class=1, image=Image.new("RGB", size, "red")))
    assert abs(np.subtract(page.images[0].size, thumbnail)).max() <= 1
    assert page.all("img")[0].get("class") != "pixelated"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_any_kind_of_image_is_shown(report, tmp_path, mode):
    page = report(make_pool(tmp_path / "pool", per_class=1, image=Image.new(mode, (8, 8))))
    assert [image.size for image in page.images] == [(8, 8)] * 2
    save_grid_png(tmp_path / "grid.png", make_pool(tmp_path / "pool", per_class=1, image=Image.new(mode, (8, 8))))


def test_certain_classifiers_break_no_figure(report, tmp_path):
    pool = make_pool(tmp_path / "pool", targets=True)
    for row, extreme in zip(pool.rows, [0.0, 1.0] * 4, strict=True):
        row |= {"difficulty": extreme, "target_difficulty": 1 - extreme}
    page = report(pool, reference={"coat": np.zeros(50)})
    assert "nan" not in page.source.lower().split("</style>")[1].split("<img")[0]
    assert "100 %" in page.text  # the bar that holds all of the reference says so


def test_report_without_pools_shows_the_selected_sets(report, tmp_path):
    page = report(pools=[], reference={}, selected=[ReportedSet("DGS", make_pool(tmp_path / "set", per_class=2))])
    assert "2 classes, 1 distilled set with 4 images" in page.text
    assert len(page.all("img")) == 4


def test_report_of_nothing_is_still_a_page(report):
    page = report(pools=[], reference={})
    assert page.all("h1")[0]["text"] == "A run"
    assert not page.all("svg")


def test_same_run_gives_the_same_bytes(report, tmp_path):
    pool = make_pool(tmp_path / "pool", targets=True)
    assert report(pool).source == report(pool).source


def test_pool_without_scores_is_refused_and_the_old_report_kept(report, tmp_path):
    old = report().source
    pool = make_pool(tmp_path / "pool")
    for row in pool.rows:
        row["difficulty"] = None
    with pytest.raises(ValueError, match=r"run score_and_record\(\)"):
        report(pool)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["report.html"]
    assert (tmp_path / "out" / "report.html").read_text("utf-8") == old


@pytest.mark.parametrize("unknown", [None, float("nan")])
def test_images_without_difficulty_are_left_out_and_counted(report, tmp_path, unknown):
    pool = make_pool(tmp_path / "pool", targets=True)
    pool.rows[0] |= {"difficulty": unknown, "target_difficulty": unknown}
    page = report(pool)
    assert len(page.all("img")) == 7
    assert "Left out, without a difficulty: 1 image." in page.text
    assert "of 7 images" in page.text  # target against measured
    assert "nan" not in page.text.lower()


@pytest.mark.parametrize("aim", [float("nan"), "hard", True, None])
def test_target_that_is_no_number_is_none(report, tmp_path, aim):
    pool = make_pool(tmp_path / "pool", classes=("coat",), per_class=1)
    pool.rows[0]["target_difficulty"] = aim
    page = report(pool)
    assert "d*" not in page.rows_of_images[0][0]
    assert not [one for one in page.all("svg") if "Target against" in one.get("aria-label", "")]


def test_unreadable_image_leaves_its_place_empty(report, tmp_path):
    pool = make_pool(tmp_path / "pool", classes=("coat",), per_class=3)
    (pool.path / pool.rows[1]["file_name"]).write_bytes(b"no image")
    page = report(pool)
    assert len(page.all("img")) == 2
    assert [hover.endswith("not readable") for hover in page.rows_of_images[0]].count(True) == 1
    assert "3 of 3" in page.text


def test_report_without_reference_says_so(report, tmp_path):
    page = report(make_pool(tmp_path / "pool", classes=("coat",), per_class=1), reference={})
    assert "No reference of real images was given." in page.text
    assert "the line repeats" not in page.text
    assert "No reference" not in report().text


def test_a_thousand_classes_stay_one_small_page(tmp_path):
    names = [f"class {i}" for i in range(1000)]
    rows = make_pool(tmp_path / "pool", classes=["one"], per_class=3).rows
    rows = [{**rows[i % 3], "label": i // 3, "class_name": names[i // 3]} for i in range(3000)]
    pool, chosen = (Pool(tmp_path / "pool", rows, record) for record in ({}, {"selection": selection(names)}))
    sets = {"pools": [ReportedSet("pool", pool)], "selected": [ReportedSet("set", chosen)]}
    source = write_report(tmp_path / "report.html", title="A run", reference={}, **sets).read_text()
    assert source.count("<option") == 1001
    assert source.count("<img") == 2 * 1000 * 2
    assert "4,000 thumbnails in this page" in source
    assert len(source) < 5e6


def test_budget_of_images_is_shared_by_classes_and_sets():
    assert images_per_class(10, 3) == 12
    assert images_per_class(1000, 1) == 4
    assert images_per_class(1000, 5) == 2
    assert images_per_class(0, 0) == 12


def selection(names, found=(1, 0), wanted=(1, 1), **record):
    """A record as ``PoolSelection`` writes it, of bins that are empty but for the first ones."""
    bins = [[*some, *[0] * (10 - len(some))] for some in (wanted, found)]
    deficits = [max(0, asked - got) for asked, got in zip(*bins, strict=True)]
    rest = {"quotas": bins[0], "found": bins[1], "deficits": deficits, "distance": 0.25, "floor": 0.0625}
    return {
        "method": "histogram",
        **record,
        "classes": [{"class": name, "scale": [0.01, 1.0], **rest} for name in names],
    }


def test_quota_table_marks_what_is_lacking(report, tmp_path):
    pool = make_pool(tmp_path / "pool")
    pool = Pool(pool.path, pool.rows, {"selection": selection(["coat", "bag"])})
    page = report(pools=[], selected=[ReportedSet("DGS", pool)])
    marked = [one["text"] for one in page.all("td") if "lacking" in (one.get("class") or "")]
    assert marked == ["0/2", "2", "0/1", "1", "0/1", "1"]  # all classes, coat, bag
    assert "2 lacking, drawn at random instead" in page.text
    assert "0.2500 (0.0625)" in page.text


def test_quotas_of_matching_are_not_said_to_be_filled_at_random(report, tmp_path):
    pool = make_pool(tmp_path / "pool")
    pool = Pool(pool.path, pool.rows, {"selection": selection(["coat", "bag"], method="matching")})
    assert "at random" not in report(pools=[], selected=[ReportedSet("DGS", pool)]).text


@pytest.mark.parametrize(
    "record", ["none", [1], {"classes": 3}, {"classes": [{"class": "coat"}], "target": {"shares": "x"}}]
)
def test_selection_that_somebody_else_recorded_breaks_nothing(report, tmp_path, record):
    pool = make_pool(tmp_path / "pool")
    page = report(pools=[], selected=[ReportedSet("set", Pool(pool.path, pool.rows, {"selection": record}))])
    assert "Selection" not in [one["text"] for one in page.all("h2")]


def test_class_whose_record_has_other_bins_is_left_out_of_the_quotas(report, tmp_path):
    pool, record = make_pool(tmp_path / "pool"), selection(["coat", "bag"])
    record["classes"][1] |= {"quotas": [1] * 5, "found": [0] * 5, "deficits": [1] * 5}
    page = report(pools=[], selected=[ReportedSet("DGS", Pool(pool.path, pool.rows, {"selection": record}))])
    assert "; 1 lacking, drawn at random instead" in page.text


def test_target_of_a_set_is_drawn_as_its_record_says(report, tmp_path):
    pool = make_pool(tmp_path / "pool")
    record = selection(["coat", "bag"], target={"name": "hardest bin", "shares": [0] * 9 + [1]})
    page = report(selected=[ReportedSet("DGS", Pool(pool.path, pool.rows, {"selection": record}))])
    assert "the line repeats the target of DGS" in page.text
    medians = [float(one["text"].split()[-1]) for one in page.all("title") if one["text"].startswith("target: ")]
    assert medians == pytest.approx([0.8, 0.8], abs=0.05)  # the tenth bin of the scale from 0.01 to 1


def test_set_that_follows_a_reference_is_compared_with_it(report, tmp_path):
    pool = make_pool(tmp_path / "pool", targets=True)
    record = selection(["coat", "bag"], target={"name": "reference", "reference": {"coat": [3, 0.5]}})
    page = report(pool, selected=[ReportedSet("DGS", Pool(pool.path, pool.rows, {"selection": record}))])
    assert "the line repeats the reference" in page.text


def test_steered_pool_shows_what_it_aimed_at(report, tmp_path):
    page = report(make_pool(tmp_path / "pool", targets=True))
    assert "the line repeats the target of unguided" in page.text


def test_classes_of_one_name_stay_apart(report, tmp_path):
    pool = make_pool(tmp_path / "pool", classes=("crane", "crane"), per_class=2)
    page = report(pool, reference={})
    assert [one["text"] for one in page.all("option")] == ["all", "crane", "crane_1"]
    assert [len(row) for row in page.rows_of_images] == [2, 2]


def test_grid_has_a_row_for_each_class_from_easy_to_hard(tmp_path):
    pool = make_pool(tmp_path / "pool", classes=("coat",), per_class=3)
    for row, brightness in zip(pool.rows, (90, 30, 60), strict=True):
        row["difficulty"] = brightness / 100
        Image.new("RGB", (8, 8), (brightness, 0, 200)).save(pool.path / row["file_name"])
    save_grid_png(tmp_path / "grid.png", pool)
    pixels = np.asarray(Image.open(tmp_path / "grid.png").convert("RGB")).astype(int)
    columns = [np.argwhere((pixels == (brightness, 0, 200)).all(-1))[:, 1].mean() for brightness in (30, 60, 90)]
    assert columns == sorted(columns)


def test_grid_grows_with_classes_and_keeps_to_the_asked_width(tmp_path):
    pool = make_pool(tmp_path / "pool", classes=("coat", "bag", QUOTED), per_class=20)
    one = Image.open(save_grid_png(tmp_path / "one.png", Pool(pool.path, pool.rows[:20]), 5))
    three = Image.open(save_grid_png(tmp_path / "three.png", pool, 5, title="three $classes"))
    assert three.height > 2 * one.height
    assert Image.open(save_grid_png(tmp_path / "wide.png", pool, 10)).width > three.width


def test_grid_refuses_to_show_no_images(tmp_path):
    with pytest.raises(ValueError, match="at least one image a class"):
        save_grid_png(tmp_path / "grid.png", make_pool(tmp_path / "pool"), 0)


def test_histogram_is_saved_on_white(tmp_path):
    pool = make_pool(tmp_path / "pool")
    path = save_histogram_png(
        tmp_path / "new" / "histogram.png",
        reference={"coat": np.array([0.5])},
        pools=[ReportedSet("pool $1", pool)],
        selected=[],
        title="all $classes",
    )
    image = Image.open(path).convert("RGBA")
    assert image.getpixel((0, 0)) == (255, 255, 255, 255)
    assert any(blue > red + 100 for _, (red, _, blue, _) in image.getcolors(10**6))  # the bars of the pool


def test_dots_of_a_target_are_difficulties_that_it_has():
    wanted = {name: np.repeat([0.05, 0.95], 500) for name in ("coat", "bag")}
    figure = cumulative([Series("target", INK, wanted)], ipc=3, classes=list(wanted))
    for axes in figure.axes[1:]:
        (dots,) = [line for line in axes.lines if line.get_marker() == "o"]
        assert dots.get_xdata() == pytest.approx(log_odds(np.array([0.05, 0.05, 0.95])))


def test_histogram_of_nothing_says_what_to_give(tmp_path):
    with pytest.raises(ValueError, match="give a reference, a pool or a selected set"):
        save_histogram_png(tmp_path / "histogram.png", reference={}, pools=[], selected=[])
