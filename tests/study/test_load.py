"""Study files: what is accepted, and where each mistake is said to be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedsim.errors import InputError, ScenarioError
from fedsim.study.design import Design
from fedsim.study.folder import StudyFolder
from fedsim.study.load import is_study_file, load_study
from fedsim.study.settings import Setting

Make = Callable[..., Design]

TEXT = """\
version: 1
name: small
question: Does the principal gradient beat the mean?
base: base.yaml
primary: {metric: auroc, reference: mean, smallest_difference_of_interest: 0.05}
set: {rounds: 2}
methods:
  mean:
    set: {strategy: {kind: weighted_mean}}
    tune: {client.optimizer.learning_rate: {low: 0.01, high: 1.0, scale: log}}
  principal:
    set: {strategy: {kind: principal_gradient, keep: 0.8}}
    tune: {strategy.keep: [0.5, 1.0]}
vary: {population.partition.alpha: [0.5, 5.0]}
tune: {trials: 3, seeds: [1000]}
seeds: 4
"""


@pytest.fixture
def complaint(tmp_path: Path, base: dict[str, Any]) -> Callable[..., str]:
    """Return what is said of the valid study with one piece of its text replaced."""

    def said(old: str, new: str, *changes: str) -> str:
        assert old in TEXT
        (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
        path = tmp_path / "study.yaml"
        path.write_text(TEXT.replace(old, new, 1))
        with pytest.raises(ScenarioError) as caught:
            load_study(path, changes)
        return str(caught.value).replace(f"{tmp_path}/study.yaml", "FILE")

    return said


@pytest.mark.parametrize(
    ("old", "new", "where", "what"),
    [
        ("seeds: 4", "seeds: 0", "FILE:16:1: seeds", "expected a whole number > 0"),
        ("seeds: 4", "seeds: [1, 1]", "FILE:16:1: seeds", "1 is listed twice"),
        ("seeds: 4", "seeds: [1, 1000]", "FILE:15:19: tune.seeds", "1000 is a seed of the study"),
        ("seeds: 4", "seeds: [2000000]", "FILE:16:1: seeds", "are for pilots"),
        ("base: base.yaml", "base: bass.yaml", "FILE:4:1: base", "there is no file"),
        (
            "reference: mean",
            "reference: meen",
            "FILE:5:26: primary.reference",
            "'meen' is no method; did you mean 'mean'? (one of mean, principal)",
        ),
        (
            "metric: auroc",
            "metric: f1",
            "FILE:5:11: primary.metric",
            "no run computes 'f1' (one of auroc, loss): add it to evaluation.metrics",
        ),
        ("metric: auroc", "metric: aurok", "FILE:5:11: primary.metric", "did you mean 'auroc'?"),
        (
            "keep: 0.8}",
            "kep: 0.8}",
            "FILE:12:48: methods.principal.set.strategy.kep",
            "unknown key of kind principal_gradient; did you mean 'keep'?",
        ),
        (
            "strategy.keep: [0.5, 1.0]",
            "strategy.keep: [0.5, 7.0]",
            "FILE:13:12: methods.principal.tune.strategy.keep",
            "expected a number",
        ),
        (
            "client.optimizer.learning_rate",
            "client.optimiser.learning_rate",
            "FILE:10:12: methods.mean.tune.client.optimiser.learning_rate",
            "unknown key; did you mean 'optimizer'?",
        ),
        (
            "low: 0.01, high: 1.0",
            "low: 1.0, high: 0.01",
            "FILE:10:12: methods.mean.tune.client.optimizer.learning_rate",
            "low must be below high, got 1 and 0.01",
        ),
        (
            "low: 0.01",
            "low: 0",
            "FILE:10:12: methods.mean.tune.client.optimizer.learning_rate",
            "with scale log, low must be above 0",
        ),
        ("[0.5, 5.0]}", "[]}", "FILE:14:8: vary.population.partition.alpha", "at least one"),
        ("[0.5, 5.0]}", "[0.5, 0.5]}", "FILE:14:42: vary.population.partition.alpha.1", "twice"),
        (
            "[0.5, 5.0]}",
            "[0.5, -5.0]}",
            "FILE:14:42: vary.population.partition.alpha.1",
            "expected a number > 0",
        ),
        ("[0.5, 1.0]}", "[]}", "FILE:13:12: methods.principal.tune.strategy.keep", "at least one"),
        ("{rounds: 2}", "{seed: 2}", "FILE:6:7: set.seed", "the study's own `seeds` decide"),
        (
            "{rounds: 2}",
            "{rounds.x: 2}",
            "FILE:6:7: set.rounds.x",
            "there is no rounds.x: rounds is 2, no section",
        ),
        (
            "{rounds: 2}",
            "{evaluation.select_by: brier}",
            "FILE:6:7: set.evaluation.select_by",
            "'brier' is not among evaluation.metrics",
        ),
        (
            "set: {strategy: {kind: weighted_mean}}",
            "set: {population.partition.alpha: 0.5}",
            "FILE:9:11: methods.mean.set.population.partition.alpha",
            "would undo `vary`, which has population.partition.alpha",
        ),
        (
            "set: {strategy: {kind: weighted_mean}}",
            "without: [population.partition.beta]",
            "FILE:9:15: methods.mean.without.0",
            "population.partition.beta is not varied; did you mean 'population.partition.alpha'?",
        ),
        (
            "set: {strategy: {kind: weighted_mean}}",
            "set: {evaluation.metrics: [auroc]}",
            "FILE:11:3: methods.principal",
            "differs from mean in evaluation.metrics",
        ),
        (
            "set: {strategy: {kind: weighted_mean}}",
            "set: {population.num_sites: 2}",
            "FILE:11:3: methods.principal",
            "differs from mean in population.num_sites",
        ),
        ("tune: {trials: 3, seeds: [1000]}\n", "", "FILE:10:5: methods.mean.tune", "no trials"),
        ("trials: 3", "trials: 0", "FILE:15:8: tune.trials", "expected a whole number > 0"),
        ("trials: 3,", "on: test, trials: 3,", "FILE:15:8: tune.on", "expected `validation`"),
        ("  principal:", "  prin cipal:", "FILE:11:3: methods.prin cipal", "call it by"),
        ("seeds: 4", "seeds: 9000", "FILE:16:1: seeds", "asks for 36,012 runs, at most 20,000"),
        ("question:", "qestion:", "FILE:3:1: qestion", "did you mean 'question'?"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_the_way_out(
    complaint: Callable[..., str], old: str, new: str, where: str, what: str
) -> None:
    said = complaint(old, new)
    assert where in said
    assert what in said


def test_sites_without_test_images_have_no_mean_over_sites(
    complaint: Callable[..., str],
) -> None:
    drawn = "set: {rounds: 2, population.partition: {kind: resampled, examples_per_site: 8}}"
    said = complaint(
        "reference: mean, smallest_difference_of_interest: 0.05}\nset: {rounds: 2}",
        "reference: mean, smallest_difference_of_interest: 0.05, pooled: false}\n" + drawn,
        "vary={}",
    )
    assert "FILE:5:82: primary.pooled" in said
    assert "no mean over sites: set it to true" in said


def test_one_method_is_no_comparison(complaint: Callable[..., str]) -> None:
    start = TEXT.index("  principal:")
    said = complaint(TEXT[start : TEXT.index("vary:")], "")
    assert "FILE:7:1: methods\n  a comparison needs at least two methods" in said


def test_two_methods_that_do_the_same_are_refused(complaint: Callable[..., str]) -> None:
    said = complaint(
        TEXT[TEXT.index("    set: {strategy: {kind: p") : TEXT.index("vary:")],
        "    tune: {client.optimizer.learning_rate: {low: 0.01, high: 1.0, scale: log}}\n",
    )
    assert "methods.principal\n  does the same as mean" in said


def test_a_tune_without_anything_to_tune_is_refused(complaint: Callable[..., str]) -> None:
    text = TEXT[TEXT.index("methods:") : TEXT.index("vary:")]
    assert "FILE:13:1: tune\n  no method has anything to tune" in complaint(
        text, "\n".join(line for line in text.split("\n") if "tune:" not in line)
    )


def test_a_mistake_in_a_change_names_the_change(complaint: Callable[..., str]) -> None:
    assert "--set seeds=-1: seeds\n  expected a whole number > 0" in complaint("", "", "seeds=-1")


def test_a_problem_of_many_cells_is_told_once(complaint: Callable[..., str]) -> None:
    assert complaint("{rounds: 2}", "{rounds: -2}").count("set.rounds\n") == 1


def test_a_base_with_a_mistake_is_told_as_a_scenario(
    complaint: Callable[..., str], base: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "broken.yaml").write_text(yaml.safe_dump({**base, "rounds": 0}))
    said = complaint("base: base.yaml", "base: broken.yaml")
    assert f"{tmp_path}/broken.yaml:" in said
    assert "rounds\n  expected a whole number > 0 and <= 1000000, got 0" in said


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [", "\tx: 1", "methods: {a: {b: *c}}"])
def test_what_is_no_study_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"study\.yaml"):
        load_study(path)
    assert not is_study_file(path) or text.startswith("methods")


def test_studies_are_told_from_scenarios(make: Make, tmp_path: Path) -> None:
    make()
    assert is_study_file(tmp_path / "study.yaml")
    assert not is_study_file(tmp_path / "base.yaml")
    assert not is_study_file(tmp_path / "absent.yaml")


def test_the_digest_is_of_what_the_study_says_not_of_how_it_is_written(
    make: Make, tmp_path: Path
) -> None:
    one = make()
    assert make(tmp_path / "elsewhere", name="another").digest == one.digest
    assert make(seeds=[0, 1]).digest == one.digest
    assert make(seeds=3).digest != one.digest
    assert make(question="Another one?").digest != one.digest
    primary = {"metric": "loss", "reference": "mean", "smallest_difference_of_interest": 0.05}
    assert make(primary=primary).digest != one.digest


def test_settings_are_all_combinations(make: Make) -> None:
    vary = {
        "population.partition": [{"kind": "dirichlet", "alpha": 0.5}, {"kind": "iid"}],
        "client.epochs": [1, 2],
    }
    assert [setting.name for setting in make(vary=vary).settings] == [
        "population.partition=dirichlet(alpha=0.5), client.epochs=1",
        "population.partition=dirichlet(alpha=0.5), client.epochs=2",
        "population.partition=iid, client.epochs=1",
        "population.partition=iid, client.epochs=2",
    ]
    assert [setting.name for setting in make(vary={}).settings] == ["base"]


def test_the_particular_wins_over_the_general(make: Make) -> None:
    methods = {
        "mean": {"set": {"client.epochs": 3}},
        "other": {"set": {"client.objective": {"kind": "margin"}}},
    }
    design = make(methods=methods, tune=None, set={"client.epochs": 2, "rounds": 4})
    mean = design.scenario("mean", design.settings[1], {"rounds": 5})
    other = design.scenario("other", design.settings[1], {})
    assert (mean.client.epochs, mean.rounds) == (3, 5)
    assert (other.client.epochs, other.rounds) == (2, 4)
    assert mean.population.partition.alpha == 5.0


def test_every_tuned_method_has_the_same_budget_and_others_are_told(make: Make) -> None:
    methods = {
        "mean": {"tune": {"client.optimizer.learning_rate": {"low": 0.01, "high": 1.0}}},
        "principal": {
            "set": {"strategy": {"kind": "principal_gradient"}},
            "tune": {"strategy.keep": {"low": 0.1, "high": 1.0}, "client.batch_size": [8, 16]},
        },
        "few": {"set": {"client.epochs": 2}, "tune": {"client.batch_size": [8, 16]}},
        "untuned": {"set": {"client.epochs": 3}},
    }
    design = make(methods=methods, tune={"trials": 5, "seeds": [1000, 1001]})
    setting = design.settings[0]
    num = {method: len(design.trial_cells(method, setting)) for method in methods}
    assert num == {"mean": 10, "principal": 10, "few": 4, "untuned": 0}
    assert design.notes() == [
        "few has 2 trials instead of 5: there are no more values to choose from",
        "untuned is not tuned: it runs as it is set",
    ]


def test_the_first_trial_is_the_method_as_it_is_set(make: Make) -> None:
    design = make()
    first = design.trial_cells("mean", design.settings[0])[0]
    assert (first.trial, first.values) == (0, {"client.optimizer.learning_rate": 0.1})
    as_set = design.final_cells("mean", design.settings[0])[0].scenario
    assert first.scenario.client == as_set.client


def test_trials_compute_no_yardsticks_and_intervals(make: Make) -> None:
    design = make(
        set={
            "baselines": ["pooled"],
            "evaluation.num_resamples": 50,
            "evaluation.loss_decomposition": True,
        }
    )
    (trial, *_), (final, *_) = (
        design.trial_cells("mean", design.settings[0]),
        design.final_cells("mean", design.settings[0]),
    )
    assert (final.scenario.baselines, final.scenario.evaluation.num_resamples) == (("pooled",), 50)
    assert (trial.scenario.baselines, trial.scenario.evaluation.num_resamples) == ((), 0)
    assert not trial.scenario.evaluation.loss_decomposition


def test_a_seed_more_adds_only_its_own_runs(make: Make) -> None:
    before = {cell.run for cell in make(seeds=2).first_cells()}
    after = {cell.run for cell in make(seeds=3).first_cells()}
    assert before < after
    assert len(after - before) == 2 * 2  # methods x settings


def test_a_key_that_is_varied_is_set_into_a_method_s_own_section(make: Make) -> None:
    methods = {
        "mean": {},
        "own": {
            "set": {
                "population.partition": {"kind": "dirichlet", "alpha": 9.0},
                "strategy": {"kind": "principal_gradient"},
            }
        },
    }
    design = make(methods=methods, tune=None)
    found = [design.scenario("own", setting, {}) for setting in design.settings]
    assert [scenario.population.partition.alpha for scenario in found] == [0.5, 5.0]


def test_a_method_without_a_varied_key_has_the_same_runs_in_all_its_settings(make: Make) -> None:
    methods = {
        "mean": {},
        "principal": {
            "set": {"strategy": {"kind": "principal_gradient"}},
            "without": ["client.batch_size"],
        },
    }
    design = make(methods=methods, tune=None, vary={"client.batch_size": [8, 16]})
    eight, sixteen = design.settings

    def digests(method: str, setting: Setting) -> list[str]:
        return [cell.scenario.digest for cell in design.final_cells(method, setting)]

    assert digests("principal", eight) == digests("principal", sixteen)
    assert digests("mean", eight) != digests("mean", sixteen)


def test_trials_may_be_judged_by_another_metric(make: Make) -> None:
    tune = {"trials": 2, "seeds": [1000], "metric": "loss"}
    assert make(tune=tune).analysis["tuned_by"] == "loss"
    assert make().analysis["tuned_by"] == "auroc"
    with pytest.raises(ScenarioError, match=r"tune\.metric.*\n.*no run computes 'ece'"):
        make(tune={**tune, "metric": "ece"})


def test_only_methods_that_are_compared_are_confirmatory(make: Make) -> None:
    primary = {**make().study.primary.model_dump(), "confirmatory": ["principal"]}
    assert make(primary=primary).analysis["confirmatory"] == ["principal"]
    for name in ("mean", "prinzipal"):
        with pytest.raises(
            ScenarioError, match=rf"primary\.confirmatory.*\n.*'{name}' is no method"
        ):
            make(primary={**primary, "confirmatory": [name]})


def test_studies_that_name_nothing_confirmatory_keep_their_digest(make: Make) -> None:
    design = make()
    assert "confirmatory" not in design.analysis
    assert "confirmatory" not in design.resolved()["primary"]
    primary = {**design.study.primary.model_dump(), "confirmatory": None}
    assert make(primary=primary).digest == design.digest


@pytest.mark.parametrize("content", ["{", "3", "{}", "[" * 100_000, None])
def test_a_damaged_study_folder_is_said_with_the_way_out(
    make: Make, tmp_path: Path, content: str | None
) -> None:
    folder = StudyFolder(make(), tmp_path / "runs")
    folder.close()
    head = json.loads((folder.path / "study.json").read_text())
    del head["digest"]
    (folder.path / "study.json").write_text(content or json.dumps(head))
    with pytest.raises(InputError, match=r"is damaged.*its runs are used again"):
        load_study(folder.path)
