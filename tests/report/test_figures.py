"""Figures come out whole, the same each time, whatever the run, and leave no trace."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.patches import Rectangle

from fedsim.report import figures, page, write

NAMES = {"learning_curves", "site_bars", "label_distribution", "loss_decomposition"}
RUNS = {
    "usual": {"sites": 8, "rounds": 30, "metrics": ("auroc", "balanced_accuracy", "loss")},
    "one site, one round": {"sites": 1, "rounds": 1, "metrics": ("auroc",)},
    "50 sites": {"sites": 50, "rounds": 20},
    "undefined": {"defined": False},
}


def words(figure: Any) -> str:
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    labels = [text for axes in figure.axes for text in (axes.title, *axes.get_xticklabels())]
    return "\n".join(text.get_text() for text in (*texts, *labels))


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_a_report_is_written_whole_and_the_same_again(
    make_record: Any, tmp_path: Path, run: dict[str, Any]
) -> None:
    record = make_record(tmp_path, **run)
    before = {path: path.read_bytes() for path in write(record)}
    assert {path.name for path in before} == {
        "results.csv",
        "sites.csv",
        "results.md",
        *(f"{name}.{format}" for name in NAMES for format in ("png", "svg")),
    }
    assert {path: path.read_bytes() for path in write(record)} == before
    assert set(tmp_path.joinpath("report").iterdir()) == set(before)  # and nothing left over
    for path, data in before.items():
        if path.suffix in (".png", ".svg"):
            assert data.startswith({".png": b"\x89PNG", ".svg": b"<?xml"}[path.suffix])


def test_another_run_gives_another_picture(make_record: Any) -> None:
    one, other = (figures.learning_curves(make_record(seed=seed)) for seed in (1, 2))
    assert page.encode(one, "png") != page.encode(other, "png")


def test_without_a_decomposition_there_is_no_figure_of_it(make_record: Any, tmp_path: Path) -> None:
    record = make_record(tmp_path, decomposition=False)
    assert set(figures.draw(record)) == NAMES - {"loss_decomposition"}
    write(record)
    assert "loss_decomposition" not in (tmp_path / "report/results.md").read_text()


def test_a_run_that_died_before_its_first_evaluation_has_a_report(
    make_record: Any, tmp_path: Path
) -> None:
    record = make_record(tmp_path)
    record.metrics, record.rounds = [], []
    record.selection.best_round = record.selection.final_round = 0
    write(record)
    text = (tmp_path / "report/results.md").read_text()
    assert "unfinished: 0 of 4 rounds" in text
    assert "| AUROC ↑ | final (0) | undefined |" in text


def test_every_figure_says_which_run_it_shows(make_record: Any) -> None:
    record = make_record()
    for figure in figures.draw(record).values():
        assert "label-skew · seed 7 · margin + principal_gradient · synthetic" in words(figure)
    record.population["images"]["synthetic"] = False
    assert not any("synthetic" in words(figure) for figure in figures.draw(record).values())


def test_an_undefined_site_is_marked_and_has_no_bar_of_height_zero(make_record: Any) -> None:
    axes = figures.site_bars(make_record(sites=3)).axes[0]
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert [bar.get_hatch() for bar in bars] == [None, None, "////"]
    assert all(bar.get_height() > 0 for bar in bars)
    assert [text.get_text() for text in axes.texts].count("undefined") == 1
    assert "Hatched" in words(axes.figure)
    assert "Hatched" not in words(figures.site_bars(make_record(sites=1)))


@pytest.mark.parametrize("sites", [3, 60])
def test_zero_is_written_and_no_gap(make_record: Any, sites: int) -> None:
    record = make_record(sites=sites)
    for row in record.metrics:
        if row["site"] == "site-01":
            row["value"] = 0.0
    axes = figures.site_bars(record).axes[0]
    written = [t for t in axes.texts if t.get_text() == "0.000"]
    assert [(t.xy[0], t.get_rotation()) for t in written] == [(1, 90.0 if sites == 60 else 0.0)]


def test_names_that_the_font_lacks_or_that_look_like_formulas_are_drawn(
    make_record: Any, tmp_path: Path
) -> None:
    record = make_record(tmp_path)
    record.scenario["name"] = "肺炎"
    record.population["class_names"] = ["正常", "$\\frac$"]
    record.population["sites"][0]["name"] = "अस्पताल"
    write(record)  # a warning would be an error
    assert "肺炎" in (tmp_path / "report/results.md").read_text(encoding="utf-8")


def test_curves_have_gaps_where_undefined(make_record: Any) -> None:
    record = make_record(rounds=4, metrics=("auroc",))
    for row in record.metrics:
        if row["round"] == 2:
            row["value"] = None
    axes = figures.learning_curves(record).axes[0]
    drawn = np.asarray(axes.lines[0].get_ydata(), dtype=float)
    assert np.isnan(drawn).tolist() == [False, False, True, False, False]
    assert any(isinstance(band, PolyCollection) for band in axes.collections)


def test_a_site_s_bar_says_what_it_counts(make_record: Any) -> None:
    record = make_record(sites=2, rounds=1)
    for row in record.metrics:
        row["num_valid"] = 3  # of more, as of sensitivity
    assert "n=3" in words(figures.site_bars(record))


def test_bars_stack_to_the_counts_and_to_one(make_record: Any) -> None:
    record = make_record(sites=2)
    record.population["sites"][0]["train"] = [3, 1]
    record.population["sites"][1]["train"] = [0, 0]
    above, below = figures.label_distribution(record).axes
    for axes, expected in ((above, [3, 0, 1, 0]), (below, [0.75, 0, 0.25, 0])):
        bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        assert [bar.get_height() for bar in bars] == expected
    assert "n=4" in words(below.figure)


def test_many_classes_get_colours_of_their_own() -> None:
    for number in (1, 2, 8, 9, 14):
        assert len(set(page.class_colours(number))) == number


def test_names_of_fifty_sites_do_not_overlap(make_record: Any) -> None:
    record = make_record(sites=50)
    record.population["sites"][0]["name"] = "the hospital with the very long name"
    for row in record.metrics:
        if row["site"] == "site-00":
            row["site"] = record.population["sites"][0]["name"]
    figure = figures.site_bars(record)
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert all(left.x1 <= right.x0 for left, right in itertools.pairwise(boxes))
    footer = figure.texts[-1].get_window_extent()
    assert footer.y1 < min(box.y0 for box in boxes)
    assert all(text.get_window_extent().x1 <= figure.bbox.x1 for text in figure.texts)


def test_labels_of_lines_that_end_together_keep_their_distance(make_record: Any) -> None:
    record = make_record()
    for row in record.rounds:
        row["loss_decomposition"] = dict.fromkeys(figures.TERMS, 0.1)
    figure = figures.loss_decomposition(record)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    boxes.sort(key=lambda box: box.y0)
    assert len(boxes) == 4
    assert all(below.y1 <= above.y0 for below, above in itertools.pairwise(boxes))


def test_no_global_state_is_changed(make_record: Any, tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    write(make_record(tmp_path))
    assert dict(matplotlib.rcParams) == before


def test_a_users_own_style_changes_nothing(make_record: Any) -> None:
    usual = page.encode(figures.site_bars(make_record()), "svg")
    with matplotlib.rc_context({"font.size": 20, "svg.hashsalt": None, "axes.grid": False}):
        assert page.encode(figures.site_bars(make_record()), "svg") == usual


def test_neither_matplotlib_nor_pyplot_comes_with_the_package() -> None:
    code = (
        "import sys\n"
        "import fedsim.report\n"
        "assert 'matplotlib' not in sys.modules\n"
        "from fedsim.report import page\n"
        "page.encode(page.Page('title', 'run', 'note').figure(2.0), 'png')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(figures.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
