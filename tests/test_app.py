"""The app shows what the pipeline draws, keeps users apart, and says in words what is wrong; gradio is optional."""

import base64
import io
import re
import runpy
import socket
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from tiny import tiny_classifier, tiny_pipeline
from typer.testing import CliRunner

from dag_diffusion import PoolConfig, TargetDistribution, fill_pool
from dag_diffusion.cli import app
from dag_diffusion.cli.app import MOST, Drawn, difficulties_by, draw, row_of_images
from dag_diffusion.cli.commands import app as commands

SPACE = Path(__file__).parents[1] / "examples" / "space"
QUICK = {"guidance_scale": 1.5, "num_inference_steps": 2}
REASON = "gradio is not installed; pip install -e '.[app]'"


@pytest.fixture
def gradio():
    try:
        return app.require_gradio()
    except ValueError:
        pytest.skip(REASON)


def images_in(html: str) -> list[np.ndarray]:
    found = re.findall(r"data:image/png;base64,([\w+/=]+)", html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in found]


def answer_of(page):
    """What the page calls when a control has moved."""
    return next(one.fn for one in page.fns.values() if one.api_name == "draw")


def test_images_are_those_of_a_pool_with_the_same_seed(pipeline, tmp_path):
    target = TargetDistribution.constant(0.7)
    pool = fill_pool(
        pipeline, tmp_path / "pool", PoolConfig(images_per_class=2, labels=[1], target=target, seed=5, **QUICK)
    )
    drawn = draw(pipeline, 1, 0.7, seed=5, count=2, **QUICK)
    for index, image in enumerate(drawn.images):
        assert np.array_equal(np.asarray(image), np.asarray(pool.open(index)))
    assert drawn.by_guide == pytest.approx(pool.difficulties.tolist(), abs=1e-6)


def test_evaluator_measures_what_is_shown(pipeline):
    drawn = draw(pipeline, 2, None, evaluator=pipeline.classifier, count=3, **QUICK)
    assert drawn.by_evaluator == pytest.approx(drawn.by_guide, abs=1e-5)
    other = tiny_classifier({0: "bag", 1: "boot", 2: "t-shirt"})  # the same network, its outputs named otherwise
    assert difficulties_by(other, pipeline, drawn.images, 2) != pytest.approx(drawn.by_guide, abs=1e-3)


def test_steps_are_told(pipeline):
    told = []
    draw(pipeline, 0, None, count=1, progress=lambda stage, done, total: told.append((done, total)), **QUICK)
    assert told == [(0, 2), (1, 2), (2, 2)]


@pytest.mark.parametrize("count", [0, MOST + 1])
def test_too_many_images_are_refused(pipeline, count):
    with pytest.raises(ValueError, match=f"1 to {MOST}"):
        draw(pipeline, 0, None, count=count, **QUICK)


def test_row_shows_each_image_its_bars_and_the_target():
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    drawn = Drawn([Image.fromarray(pixels), Image.fromarray(pixels.T)], [0.25, 0.5], [0.75, 0.0])
    html = row_of_images(drawn, "Steered", '<b>Bag</b> "big"', target=0.4)
    assert [image.tolist() for image in images_in(html)] == [pixels.tolist(), pixels.T.tolist()]
    assert re.findall(r"width: ([\d.]+)%", html) == ["25.0", "75.0", "50.0", "0.0"]
    assert re.findall(r"left: ([\d.]+)%", html) == ["40.0", "40.0"]
    assert "0.38 by the guide, 0.38 by the evaluator" in html
    assert "<b>Bag" not in html


def test_row_without_evaluator_says_nothing_of_one():
    drawn = Drawn([Image.new("RGB", (8, 8))], [0.5], None)
    assert "evaluator" not in row_of_images(drawn, "Steered", "Bag")


def test_missing_gradio_is_one_line_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    result = CliRunner().invoke(commands, ["app"])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert 'pip install "dag-diffusion[app]"' in result.stderr


def test_unguided_images_come_first_and_are_drawn_once(gradio, pipeline, monkeypatch):
    asked = []
    monkeypatch.setattr(app, "draw", lambda *given, **more: asked.append(given[2]) or draw(*given, **more))
    answer = answer_of(app.build_app(pipeline, **QUICK))
    (before, waiting), (same, steered) = answer(1, 0.9, 1.5, 2, 0)
    assert (before, waiting) == (same, gradio.skip())
    assert (len(images_in(before)), len(images_in(steered))) == (2, 2)
    assert next(answer(1, 0.2, 1.5, 2, 0))[0] == before
    assert asked == [None, 0.9]


def test_errors_are_shown_in_words(gradio, pipeline):
    answer = answer_of(app.build_app(pipeline, **QUICK))
    with pytest.raises(gradio.Error, match="seed is empty"):
        list(answer(1, 0.9, 1.5, 2, None))
    with pytest.raises(gradio.Error, match="target difficulties must lie in"):
        list(answer(1, 1.5, 1.5, 2, 0))


@pytest.mark.parametrize(
    "lacking",
    [RuntimeError("CUDA out of memory"), RuntimeError("Cannot allocate memory"), MemoryError(), OSError(12, "")],
)
def test_memory_that_does_not_suffice_is_told_and_other_faults_are_not_hidden(gradio, lacking):
    with pytest.raises(gradio.Error, match="fewer images"), app.in_words():
        raise lacking
    with pytest.raises(RuntimeError, match="a fault of ours"), app.in_words():
        raise RuntimeError("a fault of ours")


def test_pipeline_without_guide_and_evaluator_of_other_classes_are_refused(gradio, pipeline):
    with pytest.raises(ValueError, match="give it a classifier"):
        app.build_app(tiny_pipeline(classifier=None))
    with pytest.raises(ValueError, match="no class called 'T-shirt'"):
        app.build_app(pipeline, evaluator=tiny_classifier({0: "tench", 1: "church", 2: "parachute"}))


def test_two_users_at_once_each_see_their_own_images(gradio, pipeline):
    client = pytest.importorskip("gradio_client", reason=REASON)
    page = app.build_app(pipeline, evaluator=tiny_classifier(), **QUICK)
    wishes = [(0, 0.9, 1.5, 2, 3), (2, 0.1, 1.5, 2, 4)]
    expected = [list(answer_of(page)(*wish))[-1] for wish in wishes]
    url = app.launch(page, host="127.0.0.1")
    try:
        users = [client.Client(url, verbose=False, analytics_enabled=False) for _ in wishes]
        with ThreadPoolExecutor(2) as threads:
            answers = list(threads.map(lambda user, wish: user.predict(*wish, api_name="/draw"), users, wishes))
        assert [images_in(a[1])[0].tolist() for a in answers] == [images_in(e[1])[0].tolist() for e in expected]
        assert [tuple(answer) for answer in answers] == expected
        with pytest.raises(client.exceptions.AppError, match="seed is empty"):
            users[0].predict(0, 0.9, 1.5, 2, None, api_name="/draw")
        sheet = urllib.request.urlopen(f"{url}theme.css").read().decode()  # noqa: S310 - our own, on this machine
        assert "system-ui" in sheet
        assert not re.search("@font-face|@import", sheet)  # gradio's own themes have some of elsewhere
    finally:
        page.close()


def test_port_in_use_is_told(gradio, pipeline):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port} .*another port"):
            app.launch(app.build_app(pipeline, **QUICK), host="127.0.0.1", port=port)


def test_space_builds_its_page_and_its_card_names_what_is_there(gradio):
    card = yaml.safe_load((SPACE / "README.md").read_text("utf-8").split("---")[1])
    assert (card["sdk"], len(card["short_description"]) <= 60) == ("gradio", True)
    assert "dag-diffusion[app]" in (SPACE / "requirements.txt").read_text("utf-8")
    page = runpy.run_path(str(SPACE / card["app_file"]), run_name="space")["page"]
    assert isinstance(page, gradio.Blocks)
