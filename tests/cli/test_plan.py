"""`fedsim plan` on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedsim.cli.quantities import scaled


@pytest.fixture(autouse=True)
def _short_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedsim.probe.PROBE_S", 0.01)


def test_a_plan_is_shown(fedsim: Any, quickstart: Path, tmp_path: Path) -> None:
    changes = ["--set", "population.holdout_sites=[site-03]"]
    code, out, err = fedsim("plan", quickstart, "--out", tmp_path / "runs", *changes)
    assert (code, err) == (0, "")
    assert "site-03 (never trains)" in out
    assert "23,938 parameters" in out
    assert "no image is there twice" in out
    assert "5 of 5 sites" in out
    assert "appearance:   site-00 (gamma 1.2, gain 0.97" in out
    assert "per image 5.6 MFLOP forwards, 15.9 MFLOP in training" in out
    assert "20 rounds, 9.75 MB down, 9.75 MB up" in out
    assert "estimated on this computer, one process" in out
    assert not (tmp_path / "runs").exists()


def test_the_fleet_is_shown(fedsim: Any, quickstart: Path, tmp_path: Path) -> None:
    changes = [
        "population.devices=[{profile: l4, share: 0.5}, "
        "{profile: t4, share: 0.5, uplink_mbps: 0.5, availability: 0.7}]",
        "cohort={kind: fixed_size, num_sites: 4}",
        "round_policy={kind: buffered_async, buffer_size: 2}",
    ]
    sets = [word for change in changes for word in ("--set", change)]
    code, out, err = fedsim("plan", quickstart, "--out", tmp_path, *sets)
    assert (code, err) == (0, "")
    assert "devices:      3 x l4, fp32: round 1 in " in out
    assert "3 x t4, fp32: round 1 in " in out
    assert "virtual time: " in out
    assert "for all rounds" in out
    assert "sites work " in out
    assert "models ago on average" in out
    assert "times a site is not there" in out
    assert "last to arrive: site-0" in out


def test_who_attacks_is_shown(fedsim: Any, quickstart: Path, tmp_path: Path) -> None:
    attack = "population.adversaries=[{kind: sign_flip, sites: [site-01, site-04]}]"
    says = "2 of 6 sites attack: sign_flip from round 1 (site-01, site-04)"
    code, out, err = fedsim("plan", quickstart, "--out", tmp_path, "--set", attack)
    assert (code, err) == (0, "")
    assert f"attack:       {says}\n" in out
    assert f"\n{says}\n" in fedsim("validate", quickstart, "--set", attack)[1]
    assert "sites attack" not in fedsim("validate", quickstart)[1]


BAGS = [
    "--set",
    "population.supervision=[{kind: bags, bag_size: 8, "
    "label_privacy: {kind: laplace, epsilon: 2.0}}]",
    "--set",
    "client.objective={kind: interpolated_bag, rho: 0.2}",
    "--set",
    "evaluation={metrics: [bag_loss], select_by: bag_loss, loss_decomposition: false}",
]


def test_what_is_known_of_labels_and_what_they_cost_is_shown(fedsim: Any, quickstart: Path) -> None:
    code, out, err = fedsim("plan", quickstart, *BAGS)
    assert (code, err) == (0, "")
    assert "sites have" in out
    assert "training bags of 8 to" in out
    said = " ".join(out.split())
    assert "1 x Laplace 0.5 0 2.0000" in said
    assert "Whole federation, label level: epsilon 2.0000" in said
    assert "its probability in one case is at most e^2 times that in the other" in said
    assert "bag membership, bag sizes and images" in said
    assert "bag size:" not in out


def test_the_theory_s_bag_size_is_shown_for_assumed_levels(fedsim: Any, quickstart: Path) -> None:
    assumed = ["--assume-signal", "0.1", "--assume-noise", "0.2", "--assume-dimensions", "20"]
    code, out, err = fedsim("plan", quickstart, *BAGS, *assumed)
    assert (code, err) == (0, "")
    assert "signal 0.1 and noise 0.2 are assumed" in out
    assert "with rho = 0.2 the risk is least in bags of" in out
    assert "not of this scenario: the network is not linear" in out
    code, _, err = fedsim("plan", quickstart, *BAGS, "--assume-signal", "0.1")
    assert code == 2
    assert "belong together" in err
    code, _, err = fedsim("plan", quickstart, *BAGS, *assumed[:2], "--assume-noise", "-1")
    assert code == 2
    assert "--assume-signal and --assume-noise: signal and noise must be finite" in err


def test_a_plan_can_be_read_by_programs(fedsim: Any, quickstart: Path, tmp_path: Path) -> None:
    code, out, _ = fedsim("plan", quickstart, "--json", "--out", tmp_path)
    found = json.loads(out)
    assert code == 0
    assert found["rounds"] == 20
    assert len(found["sites"]) == 6
    assert found["probe"]["training_flops"] > 2 * found["probe"]["forward_flops"]


def test_a_named_run_that_exists_is_a_problem(
    fedsim: Any, quickstart: Path, tmp_path: Path
) -> None:
    (tmp_path / "first").mkdir()
    code, out, err = fedsim("plan", quickstart, "--out", tmp_path, "--run-name", "first")
    assert code == 2
    assert "time:         about" in out
    assert "first exists already" in err
    assert list(tmp_path.glob("first/*")) == []


def test_problems_end_with_code_2(fedsim: Any, quickstart: Path, tmp_path: Path) -> None:
    changes = ["--set", "client.optimizer.learning_rate=1.0e+30"]
    code, out, err = fedsim("plan", quickstart, "--out", tmp_path, *changes)
    assert code == 2
    assert "parameters" in out
    assert "this would fail:\n- " in err


def test_what_the_sites_cannot_do_is_pointed_at(fedsim: Any, quickstart: Path) -> None:
    changes = ["--set", "client.drop_last=true", "--set", "client.batch_size=9999"]
    code, _, err = fedsim("plan", quickstart, *changes)
    assert code == 2
    assert "--set client.batch_size=9999: client.batch_size\n  with drop_last" in err


def test_numbers_have_three_digits_and_a_prefix() -> None:
    written = [scaled(num, "B") for num in (0, 12, 999.4, 999.6, 585_216, 3.39e9, 1.2e12)]
    assert written == ["0 B", "12 B", "999 B", "1 kB", "585 kB", "3.39 GB", "1.2 TB"]
