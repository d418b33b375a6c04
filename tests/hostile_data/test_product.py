"""What the program never does: load a pickle or what it did not check, reach a network unasked."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(
    f for part in ("fedsim", "clients", "strategies") for f in (ROOT / part).rglob("*.py")
)
UNPICKLING = {
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "marshal.load",
    "marshal.loads",
    "shelve.open",
    "dill.load",
    "joblib.load",
    "pd.read_pickle",
    "pandas.read_pickle",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "eval",
    "exec",
    "os.system",
}
NETWORK = {"requests": {"fedsim/data/download.py"}, "pooch": {"fedsim/data/download.py"}}
"""Packages that reach a network -> the only file that gets anything with them."""


def calls(file: Path) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call of a file with the name of what is called."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def keywords(call: ast.Call) -> dict[str, str]:
    return {word.arg or "**": ast.unparse(word.value) for word in call.keywords}


def is_safe(name: str, call: ast.Call) -> bool:
    """Return whether a call can run no code of what it reads, and writes where it is told alone."""
    said = keywords(call)
    if name == "torch.load":
        return said.get("weights_only") == "True"
    if name.endswith(("np.load", "numpy.load", "read_array", "np.save")):
        return said.get("allow_pickle") == "False"
    if name.startswith("subprocess."):
        return "shell" not in said
    unpacking = name.endswith((".extractall", ".extract")) or name == "shutil.unpack_archive"
    return not unpacking and name not in UNPICKLING


def test_nothing_is_loaded_that_could_run_code() -> None:
    unsafe = [
        f"{file.relative_to(ROOT)}:{call.lineno}: {name}"
        for file in FILES
        for name, call in calls(file)
        if not is_safe(name, call)
    ]
    assert not unsafe


@pytest.mark.parametrize(
    "text",
    [
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f)",
        "np.load(f, allow_pickle=True)",
        "pickle.load(f)",
        "yaml.load(f, yaml.Loader)",
        "subprocess.run(c, shell=True)",
        "zipfile.ZipFile(f).extractall(p)",
        "eval(text)",
    ],
)
def test_what_could_would_be_noticed(text: str) -> None:
    (call,) = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call)][:1]
    assert not is_safe(ast.unparse(call.func), call)


@pytest.mark.parametrize("package", NETWORK)
def test_one_file_alone_reaches_the_network(package: str) -> None:
    importing = {
        str(file.relative_to(ROOT))
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Import) and package in {a.name for a in node.names})
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package)
    }
    folder_of_cache = {"fedsim/data/cache.py"}
    assert importing - folder_of_cache == NETWORK[package]


OFFLINE = """
import os, socket, sys
from pathlib import Path

asked = []

def refuse(where, *more, **options):
    asked.append(repr(more or where))
    raise OSError("no network in this test")

class Closed(socket.socket):
    def connect(self, address):
        if self.family != socket.AF_UNIX:
            refuse(address)
        return super().connect(address)

    connect_ex = sendto = connect

socket.socket = Closed
socket.create_connection = socket.getaddrinfo = socket.gethostbyname = refuse

from fedsim.cli import main

file, out = sys.argv[1:]
for command in (
    ["validate", file],
    ["plan", file, "--out", out],
    ["run", file, "--out", out, "--run-name", "r", "--device", "cpu"],
    ["report", f"{out}/r"],
    ["cite", f"{out}/r"],
    ["export", f"{out}/r", "--format", "safetensors"],
    ["data", "list"],
):
    sys.argv = ["fedsim", *command]
    try:
        main()
    except SystemExit as end:
        assert not end.code, command
print("asked the network for", asked)
"""


@pytest.mark.slow
def test_nothing_reaches_the_network_unless_asked(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(
        "version: 1\nname: offline\nrounds: 1\n"
        "data: {source: {kind: synthetic, anatomy: chest, image_size: 16, num_examples: 60},"
        " task: binary}\n"
        "population: {num_sites: 2, partition: {kind: iid}}\n"
        "model: {kind: mlp, widths: [4]}\n"
        "client: {epochs: 1, batch_size: 16, optimizer: {kind: sgd, learning_rate: 0.1}}\n"
        "evaluation: {num_resamples: 0}\n"
    )
    command = [sys.executable, "-c", OFFLINE, str(file), str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "asked the network for []"


TELEMETRY = """
import os, sys
import fedsim.flower
import flwr.supercore.telemetry as telemetry
assert os.environ["FLWR_TELEMETRY_ENABLED"] == "0"
assert telemetry.FLWR_TELEMETRY_ENABLED == "0"
"""


def test_telemetry_of_flower_is_off_unless_the_user_wants_it() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "FLWR_TELEMETRY_ENABLED"}
    subprocess.run([sys.executable, "-c", TELEMETRY], check=True, env=environment)
