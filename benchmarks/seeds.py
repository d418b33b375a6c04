"""The README's table of results: scenarios and their twins over several seeds.

    FEDSIM_DATA_DIR=... python benchmarks/seeds.py [--seeds 5] [--out runs/seeds]

Runs every pair below (finished runs are taken as they are, broken ones resumed) and prints, in
Markdown, mean and standard deviation over seeds of the pooled test values after the final round,
and of FedLD's difference to FedAvg on the same seed. A seed decides everything that is random: who
holds which images, the initial model, the order of batches. About a minute a run on one core.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import fedsim
from fedsim.records import RunRecord
from fedsim.report.tables import results

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
