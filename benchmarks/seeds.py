"""The README's tables of results, over several seeds.

    FEDSIM_DATA_DIR=... python benchmarks/seeds.py [--seeds 5] [--out runs/seeds]

Runs what is below (finished runs are taken as they are, broken ones resumed) and prints, in
Markdown, mean and standard deviation over seeds: of the pooled test values of twins after the final
round and of FedLD's difference to FedAvg on the same seed; of a federation and its yardsticks; and
of what a model does at a hospital that took no part. A seed decides everything that is random: who
holds which images, the initial model, the order of batches. About an hour on one core.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import fedsim
from fedsim.records import RunRecord
from fedsim.report import leave_one_out
from fedsim.report.rows import results

SCENARIOS = Path(__file__).parent.parent / "scenarios"
PAIRS = {
    "Pneumonia on chest films, 8 sites": ("pneumonia", ("auroc", "balanced_accuracy")),
    "Referable retinopathy, 5 sites": ("retina", ("auroc", "balanced_accuracy")),
    "Five grades of retinopathy, 5 sites": ("retina_grades", ("quadratic_kappa", "auroc")),
}


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="two or more")
    parser.add_argument("--out", type=Path, default=Path("runs/seeds"))
    arguments = parser.parse_args()
    print("| task | test metric | FedAvg | FedLD | FedLD - FedAvg, same seed |")
    print("|---|---|---|---|---|")
    for title, (stem, metrics) in PAIRS.items():
        pairs = [
            tuple(
                finished(f"{stem}_{method}", seed, arguments.out) for method in ("fedavg", "fedld")
            )
            for seed in range(arguments.seeds)
        ]
        for metric in metrics:
            averaged, fedld = (
                [final(run, metric) for run in runs] for runs in zip(*pairs, strict=True)
            )
            gains = [b - a for a, b in zip(averaged, fedld, strict=True)]
            print(
                f"| {title} | {metric.replace('_', ' ')} | {spread(averaged)} | {spread(fedld)} "
                f"| {spread(gains, '+.3f')} |",
                flush=True,
            )

    print("\n| 23 hospitals as in FeTS 2022 | federated | pooled training | each site alone |")
    print("|---|---|---|---|")
    runs = [finished("pneumonia_fets", seed, arguments.out) for seed in range(arguments.seeds)]
    for metric in ("auroc", "average_precision", "balanced_accuracy"):
        for what, value in (
            ("pooled", "pooled"),
            ("mean of sites", "site_mean"),
            ("worst", "worst"),
        ):
            cells = [
                spread([reached(run, metric, method, value) for run in runs])
                for method in ("federated", "pooled", "local")
            ]
            print(f"| {metric.replace('_', ' ')}, {what} | {' | '.join(cells)} |", flush=True)
    print("\n| a hospital that took no part | there | worst of five | at those that trained |")
    print("|---|---|---|---|")
    apart = [
        left_out("retina_new_hospital", seed, arguments.out) for seed in range(arguments.seeds)
    ]
    for metric in ("auroc", "average_precision", "balanced_accuracy"):
        columns = zip(*(elsewhere(rows, metric) for rows in apart), strict=True)
        cells = [spread(list(column)) for column in columns]
        print(f"| {metric.replace('_', ' ')} | {' | '.join(cells)} |", flush=True)


def reached(record: RunRecord, metric: str, method: str, value: str) -> float:
    """Return a value of the final model of a method."""
    row = next(
        r for r in results(record) if (r.metric, r.method, r.model) == (metric, method, "final")
    )
    found = getattr(row, value)
    assert isinstance(found, float)
    return found


def left_out(name: str, seed: int, out: Path) -> list[dict[str, Any]]:
    """Return the rows of the runs without each site in turn."""
    scenario = fedsim.load_scenario(SCENARIOS / f"{name}.yaml", [f"seed={seed}"])
    records = fedsim.leave_one_site_out(scenario, out=out, name=f"{name}-{seed}", device="cpu")
    return leave_one_out.rows(records)


def elsewhere(rows: list[dict[str, Any]], metric: str) -> tuple[float, float, float]:
    """Return mean and least value at the sites left out, and the mean at those that trained."""
    final = [row for row in rows if (row["metric"], row["model"]) == (metric, "final")]
    values = [row["value"] for row in final]
    return statistics.mean(values), min(values), statistics.mean(row["seen"] for row in final)


def finished(name: str, seed: int, out: Path) -> RunRecord:
    """Return the finished run of a scenario with a seed."""
    folder = out / f"{name}-{seed}"
    scenario = fedsim.load_scenario(SCENARIOS / f"{name}.yaml", [f"seed={seed}"])
    if folder.exists():
        record = fedsim.resume(folder)
        if record.run["digest"] != scenario.digest:
            raise SystemExit(f"{folder} is of another version of {name}.yaml; choose another --out")
        return record
    return fedsim.run(scenario, out=out, name=folder.name, device="cpu")


def final(record: RunRecord, metric: str) -> float:
    """Return the pooled test value after the final round."""
    row = next(r for r in results(record) if (r.metric, r.model) == (metric, "final"))
    assert row.pooled is not None
    return row.pooled


def spread(values: list[float], form: str = ".3f") -> str:
    """Return mean and standard deviation over seeds."""
    return f"{statistics.mean(values):{form}} ± {statistics.stdev(values):.3f}"


if __name__ == "__main__":
    main()
