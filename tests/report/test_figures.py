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
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.patches import Rectangle

from fedsim.report import canvas, figures, write
from fedsim.report.reliability import curve, reliability

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
        "index.html",
        *(f"{name}.{format}" for name in NAMES for format in ("png", "svg")),
    }
    assert {path: path.read_bytes() for path in write(record)} == before
    assert set(tmp_path.joinpath("report").iterdir()) == set(before)  # and nothing left over
    for path, data in before.items():
        if path.suffix in (".png", ".svg"):
            assert data.startswith({".png": b"\x89PNG", ".svg": b"<svg"}[path.suffix])


def test_the_solver_s_last_bits_leave_no_trace(make_whole_record: Any) -> None:
    def drawn(noise: float) -> bytes:
        figure = figures.draw(make_whole_record())["calibration"]
        engine: Any = figure.get_layout_engine()
        usual = engine.execute

        def execute(fig: Any) -> None:
            usual(fig)
            for axes in fig.axes:
                axes.set_position([x + noise for x in axes.get_position().bounds])

        engine.execute = execute
        return canvas.encode(figure, "svg")

    assert drawn(0) == drawn(1e-15)


def test_another_run_gives_another_picture(make_record: Any) -> None:
    one, other = (figures.learning_curves(make_record(seed=seed)) for seed in (1, 2))
    assert canvas.encode(one, "png") != canvas.encode(other, "png")


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
    assert "| AUROC ↑ | federated | final (0) | undefined |" in text


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
    written: list[Any] = [t for t in axes.texts if t.get_text() == "0.000"]
    assert [(t.xy[0], t.get_rotation()) for t in written] == [(1, 90.0 if sites == 60 else 0.0)]


def test_many_sites_are_dots_in_order_and_no_wider_than_others(make_whole_record: Any) -> None:
    record = make_whole_record(sites=120, rounds=1)
    drawn = figures.draw(record)
    for name in ("site_bars", "label_distribution"):
        assert drawn[name].get_figwidth() == canvas.WIDTH
    assert drawn["local_models"].axes[0].get_xlabel() == "judged at, sites by their number"
    pooled, alone, own = drawn["site_bars"].axes[0].collections
    values = np.array(own.get_offsets())
    expected = sorted(
        row["value"]
        for row in record.metrics
        if (row["round"], row["split"], row["metric"]) == (1, "test", "auroc")
        and row["site"] != "pooled"
        and row["value"] is not None
    )
    assert values[:, 1].tolist() == pytest.approx(expected)
    assert values[:, 0].tolist() == list(range(119))
    assert len(pooled.get_offsets()) == len(alone.get_offsets()) == 119
    assert "not drawn: 1 of 120 sites" in words(drawn["site_bars"])
    above, below = drawn["label_distribution"].axes
    sizes = sorted((sum(site["train"]) for site in record.population["sites"]), reverse=True)
    assert above.get_ylim()[1] >= sizes[0]
    assert below.get_ylim() == (0, 1)
    assert len(above.collections) == len(record.population["class_names"])


def test_many_sites_without_a_value_are_said_to_have_none(make_record: Any, tmp_path: Path) -> None:
    record = make_record(tmp_path, sites=101, rounds=1, defined=False)
    drawn = figures.draw(record)["site_bars"]
    assert "not drawn: 101 of 101 sites" in words(drawn)
    assert "A dot is" not in words(drawn)
    write(record)  # a warning would be an error


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
        assert len(set(canvas.class_colours(number))) == number


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


def yardstick(kind: str, trained_at: str, site: str, value: float | None) -> dict[str, Any]:
    front = {"baseline": kind, "model": "final", "trained_at": trained_at, "round": 4}
    row = {"split": "test", "site": site, "metric": "auroc", "value": value}
    return {**front, **row, "num_examples": 9, "num_valid": 9}


@pytest.mark.parametrize("sites", [1, 3, 24])
def test_yardsticks_stand_beside_their_bars(make_record: Any, sites: int) -> None:
    record = make_record(sites=sites)
    names = [site["name"] for site in record.population["sites"]]
    record.baselines = [
        yardstick(kind, "pooled" if kind == "pooled" else name, name, value)
        for kind, value in (("pooled", 0.9), ("local", 0.7))
        for name in names
    ]
    record.intervals = [
        {"method": "federated", "model": "final", "split": "test", "site": names[0]}
        | {"metric": "auroc", "low": 0.5, "high": 0.8, "confidence": 0.95, "unit": "image"}
    ]
    figure = figures.site_bars(record)
    drawn = {y for line in figure.axes[0].lines for y in np.asarray(line.get_ydata()).tolist()}
    assert {0.9, 0.7} <= drawn
    legend = figure.legends[0]
    assert [t.get_text() for t in legend.get_texts()] == [
        "federated",
        "pooled training",
        "each site alone",
    ]
    assert "Whiskers: 95 % bootstrap" in words(figure)
    (whisker,) = (c for c in figure.axes[0].collections if isinstance(c, LineCollection))
    assert whisker.get_segments()[0].tolist() == [[0, 0.5], [0, 0.8]]


def test_sites_with_too_few_images_are_pale(make_record: Any) -> None:
    record = make_record(sites=3)
    record.scenario["evaluation"]["min_per_class"] = 5
    record.population["sites"][0]["test"] = [4, 90]
    record.population["sites"][1]["test"] = [5, 90]
    axes = figures.site_bars(record).axes[0]
    colours = [matplotlib.colors.to_hex(p.get_facecolor()).upper() for p in axes.patches[:2]]
    assert colours == [canvas.PALE, canvas.SKY]
    assert "Pale: fewer than 5 test images" in words(axes.figure)


def test_models_of_single_sites_are_compared_at_every_site(make_record: Any) -> None:
    record = make_record(sites=3)
    names = [site["name"] for site in record.population["sites"]]
    value = {(i, j): 0.5 + 0.1 * i + 0.01 * j for i in range(3) for j in range(3)}
    record.baselines = [
        yardstick("local", a, b, None if (i, j) == (2, 1) else value[i, j])
        for i, a in enumerate(names)
        for j, b in enumerate(names)
    ]
    figure = figures.draw(record)["local_models"]
    written = [text.get_text() for text in figure.axes[0].texts]
    assert written[:3] == ["0.50", "0.51", "0.52"]
    assert len(written) == 8 + 2, "one cell and the federated model's last one are undefined"
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == [*names, "federated"]
    assert "local_models" not in figures.draw(make_record())


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_calibration_is_drawn_from_the_predictions(make_record: Any, task: str) -> None:
    record = make_record(sites=2)
    record.scenario["data"]["task"] = task
    rng = np.random.default_rng(0)
    truth = rng.random(4000)
    labels = (rng.random(4000) < truth).astype(int)
    scores = np.log(np.column_stack([1 - truth, truth])).astype(np.float32)
    parts = {"a": (scores[:1000], labels[:1000]), "b": (scores[1000:], labels[1000:])}
    record.predictions = lambda round: {"test": parts, "validation": {"a": parts["a"]}}
    curves = reliability(record)
    assert sum(curves["test"].counts) == 4000
    assert sum(curves["validation"].counts) == 1000
    np.testing.assert_allclose(curves["test"].said, curves["test"].seen, atol=0.08)
    assert len(curves["test"].said) == (15 if task == "binary" else 8)
    figure = figures.draw(record)["calibration"]
    markers = [line.get_marker() for line in figure.axes[0].lines[1:]]
    assert markers == ["o", "."], "the smaller one on top"
    assert "pneumonia" in figure.axes[1].get_xlabel() or task == "multiclass"
    assert "calibration" not in figures.draw(make_record())


def test_a_curve_of_calibration_has_the_bins_and_the_error_of_the_metric() -> None:
    said = np.array([0.6, 0.6, 0.9, 0.2])  # 0.6 and 0.2 are edges of bins, which close above
    labels = np.array([1, 0, 1, 0])
    scores = np.log(np.column_stack([1 - said, said]))
    drawn = curve([(scores[:1], labels[:1]), (scores[1:], labels[1:])], positive=1)
    assert drawn is not None
    assert drawn.counts == [0, 0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0]
    np.testing.assert_allclose(drawn.said, [0.2, 0.6, 0.9])
    assert drawn.seen == [0, 0.5, 1]
    # decided: 0.6 rightly and wrongly, 0.9 and 0.8 rightly
    assert drawn.ece == pytest.approx((abs(1 - 2 * 0.6) + abs(1 - 0.9) + abs(1 - 0.8)) / 4)


@pytest.mark.parametrize("diverged", ["test", "validation"])
def test_predictions_that_are_not_numbers_have_no_curve(
    make_whole_record: Any, tmp_path: Path, diverged: str
) -> None:
    record = make_whole_record(tmp_path)
    predictions = record.predictions(4)
    scores, _ = predictions[diverged]["site-00"]
    scores[0] = np.nan
    drawn = figures.draw(record)
    assert ("calibration" in drawn) == (diverged == "validation")
    if "calibration" in drawn:
        (label,) = (text.get_text() for text in drawn["calibration"].legends[0].get_texts())
        assert label.startswith("test, ECE 0.")


@pytest.mark.parametrize(
    "run",
    [
        {"sites": 3, "metrics": ("auroc", "ece", "loss")},
        {"sites": 23, "external": ("abroad",)},
        {"sites": 5, "classes": 5},
        {"sites": 1, "rounds": 1, "external": ()},
    ],
    ids=["three sites", "23 sites", "five classes", "one site"],
)
def test_a_whole_run_has_every_table_and_figure_and_the_same_again(
    make_whole_record: Any, tmp_path: Path, run: dict[str, Any]
) -> None:
    before = {path: path.read_bytes() for path in write(make_whole_record(tmp_path, **run))}
    names = {path.name for path in before}
    assert {f"{name}.png" for name in NAMES | {"calibration", "local_models"}} <= names
    assert "local_models.csv" in names
    assert ("external.csv" in names) == bool(run.get("external", True))
    assert {path: path.read_bytes() for path in write(make_whole_record(tmp_path, **run))} == before


@pytest.mark.parametrize(("sites", "written"), [(12, True), (13, False)])
def test_values_are_written_into_the_cells_of_few_sites(
    make_whole_record: Any, sites: int, written: bool
) -> None:
    axes = figures.draw(make_whole_record(sites=sites, rounds=1))["local_models"].axes[0]
    assert len(axes.texts) == written * (sites - 1) * (sites + 1)  # the last site is undefined


def test_external_images_get_a_line_of_their_own(make_record: Any, make_row: Any) -> None:
    record = make_record(metrics=("auroc",))
    before = len(figures.learning_curves(record).axes[0].lines)
    record.population["external"] = [{"name": "abroad", "test": [3, 3]}]
    record.metrics += [make_row(r, "external", "pooled", "auroc", 0.6) for r in range(5)]
    figure = figures.learning_curves(record)
    assert len(figure.axes[0].lines) == before + 1
    assert "external, pooled" in [t.get_text() for t in figure.legends[0].get_texts()]
    record.metrics = [row for row in record.metrics if row["split"] != "external"]  # not yet
    figure = figures.learning_curves(record)
    assert "external, pooled" not in [t.get_text() for t in figure.legends[0].get_texts()]


def test_no_global_state_is_changed(make_record: Any, tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    write(make_record(tmp_path))
    assert dict(matplotlib.rcParams) == before


def test_a_users_own_style_changes_nothing(make_record: Any) -> None:
    usual = canvas.encode(figures.site_bars(make_record()), "svg")
    with matplotlib.rc_context({"font.size": 20, "svg.hashsalt": None, "axes.grid": False}):
        assert canvas.encode(figures.site_bars(make_record()), "svg") == usual


def test_neither_matplotlib_nor_pyplot_comes_with_the_package() -> None:
    code = (
        "import sys\n"
        "import fedsim.report\n"
        "assert 'matplotlib' not in sys.modules\n"
        "from fedsim.report import canvas\n"
        "canvas.encode(canvas.Canvas('title', 'run', 'note').figure(2.0), 'png')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(figures.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
