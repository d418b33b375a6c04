"""Two hospitals that keep their images, as separate processes on this computer.

    python examples/hospitals/run.py hospitals

Makes images (embedded, synthetic), simulates the study, gives each hospital its own folder, starts
a SuperLink and a SuperNode for each, runs the same study with them, and compares the two. Takes
about two minutes, most of it starts of Flower. By hand, in three terminals: docs/deployment.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import yaml

import fedsim
from fedsim.engines.superlink import environment, superlink, supernode

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
COMPARED = ("rounds.jsonl", "metrics.jsonl", "checkpoints/round-{:05d}.safetensors")


def main(folder: Path, rounds: int) -> int:
    """Do all of it in a new folder and return 0 if the two runs are equal to the bit."""
    unpack = ["fedsim", "data", "unpack", CHECKOUT / "scenarios" / "quickstart.yaml"]
    unpack += [folder / "whole", "--set", "population.num_sites=2"]
    unpack += ["--set", "data.source.num_examples=400", "--set", "seed=1"]
    subprocess.run([sys.executable, "-m", *unpack], check=True)
    study = yaml.safe_load((HERE / "scenario.yaml").read_text(encoding="utf-8"))
    study["data"]["source"]["path"] = "whole"
    scenario = folder / "scenario.yaml"
    scenario.write_text(yaml.safe_dump(study | {"rounds": rounds}))

    print("simulating", flush=True)
    out = folder / "runs"
    fedsim.run(fedsim.load_scenario(scenario), out=out, name="simulation", device="cpu")

    hospitals = []
    for site in sorted(path.name for path in (folder / "whole").iterdir() if path.is_dir()):
        hospitals.append(folder / f"hospital-{len(hospitals)}")
        hospitals[-1].mkdir()
        (folder / "whole" / site).rename(hospitals[-1] / site)

    print(f"starting a SuperLink and {len(hospitals)} SuperNodes", flush=True)
    home = folder / "flower"
    home.mkdir()
    with ExitStack() as stack:
        address = stack.enter_context(superlink(home))
        for number, hospital in enumerate(hospitals):
            config = f"partition-id={number} num-partitions={len(hospitals)} data-dir='{hospital}'"
            stack.enter_context(supernode(home, address, config, hospital.name))
        run_config = f"scenario='{scenario}' out='{out}' run-name='federation' device='cpu'"
        command = ["flwr", "run", CHECKOUT, "--stream", "--run-config", run_config]
        subprocess.run(command, env=environment(home), check=True)

    files = [name.format(rounds) for name in COMPARED]
    unequal = [
        name
        for name in files
        if (out / "simulation" / name).read_bytes() != (out / "federation" / name).read_bytes()
    ]
    print(f"{', '.join(unequal or files)}: {'NOT ' * bool(unequal)}equal to the bit")
    return int(bool(unequal))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("folder", type=Path, help="a new one, for all that is made")
    parser.add_argument("--rounds", type=int, default=2, help="of training")
    arguments = parser.parse_args()
    sys.exit(main(arguments.folder.resolve(), arguments.rounds))
