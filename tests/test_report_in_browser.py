"""The report as a reader has it in a browser: nothing breaks, nothing is fetched, all of it works and fits."""

import dataclasses

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from PIL import Image

from dag_diffusion.data.pools import Pool
from dag_diffusion.evaluation.comparisons import default_baselines
from dag_diffusion.evaluation.results import Result
from dag_diffusion.evaluation.tables import Table
from dag_diffusion.reporting.report import write_report
from dag_diffusion.reporting.results import shown_results
from dag_diffusion.reporting.sets import ReportedSet

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on the path; install it to see the report rendered"
)
HOSTILE = """</script><script>window.planted = 1</script>"><img src=x onerror='window.planted = 1'>"""
CLASSES = ("coat", HOSTILE, "a class with a very long name, without any use " * 3)
FIRST = Result(
    set="random:pool, IPC 10",
    network="convnet-3",
    protocol="quick",
    seed=0,
    images_per_class=10.0,
    accuracy=0.7,
    seconds=1.0,
    draw=0,
    test="1,000 real images",
    epochs=20,
)


def make_pool(folder, provenance):
    rng, rows = np.random.default_rng(0), []
    for label, name in enumerate(CLASSES):
        (folder / str(label)).mkdir(parents=True)
        for i in range(15):
            file_name = f"{label}/{i:03d}.png"
            size = (28, 28) if i % 2 else (300, 200)
            Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(folder / file_name)
            values = {"target_difficulty": float(rng.uniform()), "difficulty": float(rng.uniform() ** 4)}
            rows.append({"file_name": file_name, "label": label, "class_name": name, "seed": i, **values})
    return Pool(folder, rows, provenance)


def make_results():
    sets = {"random:pool, IPC 10": 10, "random:pool, IPC 50": 50, f"{HOSTILE}, IPC 10": 10, f"{HOSTILE}, IPC 50": 50}
    return [
        dataclasses.replace(
            FIRST, set=name, images_per_class=ipc, seed=seed, draw=seed, accuracy=0.6 + ipc / 500 + seed / 50
        )
        for name, ipc in sets.items()
        for seed in range(3)
    ]


def make_report(folder):
    chosen = {"quotas": [2] * 10, "found": [1] * 10, "deficits": [1] * 10, "distance": 0.1, "floor": 0.05}
    record = {"method": "histogram", "classes": [{"class": name, **chosen} for name in CLASSES]}
    pool = make_pool(folder / "pool", {"selection": record})
    results = make_results()
    tables, drawings = shown_results(results, default_baselines(results))
    return write_report(
        folder / "report.html",
        title=HOSTILE,
        reference={name: np.linspace(0, 1, 50) ** 3 for name in CLASSES},
        pools=[ReportedSet("a pool " * 12, Pool(pool.path, pool.rows))],
        selected=[ReportedSet(HOSTILE, pool)],
        tables=[*tables, Table("wide", [f"column {i}" for i in range(30)], [[HOSTILE, *range(29)]])],
        drawings=drawings,
        provenance={"a": "long line " * 50},
        commands=["dag-diffusion generate " + "with/a/long/path" * 20],
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return make_report(tmp_path_factory.mktemp("report"))


@pytest.fixture
def page(browser, report):
    return browser.open(report)


def visible(page, selector):
    return page.tell(
        f"[...document.querySelectorAll({selector!r})].filter(e => e.checkVisibility()).map(e => e.dataset.class ?? '')"
    )


def test_page_loads_without_complaint_and_asks_for_nothing(page, report):
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith("data:")] == [report.as_uri()]
    assert page.tell("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert page.tell("document.images.length") == 2 * 3 * 12


def test_names_are_shown_and_do_not_run(page):
    assert page.tell("window.planted") is None
    assert page.tell("document.title") == HOSTILE
    assert page.tell("document.scripts.length") == 1


def test_filter_leaves_one_class_everywhere(page):
    parts = ("tr[data-class]", "figure[data-class]", "div[data-class]")
    assert all({"0", "1", "2"} == set(visible(page, part)) for part in parts)
    page.tell("(f => { f.value = '1'; f.dispatchEvent(new Event('change')); })(document.getElementById('filter'))")
    assert all({"1"} == set(visible(page, part)) for part in parts)
    page.tell("(f => { f.value = ''; f.dispatchEvent(new Event('change')); })(document.getElementById('filter'))")
    assert all({"0", "1", "2"} == set(visible(page, part)) for part in parts)


def shown_tip(page):
    return page.tell("(t => t.hidden ? '' : t.textContent)(document.getElementById('tip'))")


def test_difficulties_are_told_of_the_image_pointed_at(page):
    assert shown_tip(page) == ""
    page.point(".strip li:nth-child(3)")
    assert shown_tip(page).startswith("d = ")
    assert ", d* = " in shown_tip(page)
    page.point("h1")
    assert shown_tip(page) == ""


def test_keys_lead_from_image_to_image(page):
    page.tell("document.querySelector('.strip li').focus()")
    first = shown_tip(page)
    page.press("ArrowRight")
    second = shown_tip(page)
    assert first.startswith("d = ")
    assert second.startswith("d = ")
    assert first != second
    page.press("Tab")  # on to the next row, not to each of twelve images
    assert page.tell("document.activeElement.closest('.class').dataset.class") == "1"
    page.press("Escape")
    assert shown_tip(page) == ""


def test_tap_tells_difficulties(browser, report):
    page = browser.open(report, width=390)
    page.tell("document.querySelector('.strip li').click()")
    assert shown_tip(page).startswith("d = ")


@pytest.mark.parametrize("width", [390, 320, 1280])
def test_nothing_is_wider_than_the_window(browser, report, width):
    page = browser.open(report, width=width)
    page.point(".strip li:last-child")  # nor is what is said of an image
    assert page.tell("document.documentElement.scrollWidth") <= page.tell("document.documentElement.clientWidth")
    assert page.tell("document.body.scrollWidth") <= width


def test_wide_tables_scroll_in_their_own_box(browser, report):
    page = browser.open(report, width=390)
    assert (
        page.tell("Math.max(...[...document.querySelectorAll('.scroll')].map(e => e.scrollWidth - e.clientWidth))")
        > 100
    )


CONTRAST = """
(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const light = color => {
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map(v => v / 255)
      .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
      .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  };
  const page = light(getComputedStyle(document.body).backgroundColor);
  const ratio = own => (Math.max(own, page) + .05) / (Math.min(own, page) + .05);
  const color = e => e.closest('svg') ? getComputedStyle(e).fill : getComputedStyle(e).color;
  return Math.min(...[...document.querySelectorAll('p, td, th, a, figcaption, li, svg text')]
    .map(e => ratio(light(color(e)))));
})()
"""


@pytest.mark.parametrize("dark", [False, True])
def test_text_of_page_and_figures_is_legible_in_both_schemes(browser, report, dark):
    page = browser.open(report, dark=dark)
    background = page.tell("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") is not dark
    assert page.tell(CONTRAST) >= 4.5  # as the accessibility guidelines ask of text


def test_no_text_is_tiny_on_a_phone(browser, report):
    page = browser.open(report, width=390)
    sizes = """Math.min(...[...document.querySelectorAll('figure svg text')].filter(e => e.checkVisibility())
        .map(e => parseFloat(getComputedStyle(e).fontSize) * (m => Math.hypot(m.a, m.b))(e.getScreenCTM())))"""
    assert page.tell(sizes) >= 9
