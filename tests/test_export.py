"""What is exported is what was trained: it predicts what the run measured, with PyTorch alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import fedsim
from fedsim import formats, trained
from fedsim.data.normalisation import Standard
from fedsim.errors import InputError
from fedsim.formats import Format
from fedsim.models import Mlp
from fedsim.records import RunRecord
from fedsim.scenario import Scenario, open_population

Make = Callable[..., Scenario]
SYNTHETIC = {"kind": "synthetic", "anatomy": "fundus", "image_size": 16, "num_examples": 150}


@pytest.fixture(scope="module")
def scenario(tiny: Make) -> Scenario:
    return tiny(
        data={
            "source": SYNTHETIC,
            "task": "ordinal",
            "normalisation": {"kind": "standard", "mean": [0.4], "std": [0.3]},
        },
        client={"epochs": 1, "batch_size": 16, "regulariser": {"kind": "contrastive"}},
        baselines=["pooled"],
        population={
            "num_sites": 3,
            "appearance": {"kind": "scanner", "severity": "mild"},
            "label_noise": [{"kind": "symmetric", "rate": 0.3}],
        },
        evaluation={"external": [{"name": "elsewhere", "source": {**SYNTHETIC, "signal": 0.8}}]},
    )


@pytest.fixture(scope="module")
def record(scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return fedsim.run(scenario, out=tmp_path_factory.mktemp("runs"), device="cpu")


@pytest.fixture(scope="module", params=["best", "final"])
def exported(request: pytest.FixtureRequest, record: RunRecord) -> tuple[str, Path]:
    return request.param, fedsim.export(
        record.folder, which=request.param, out=record.folder / f"export-{request.param}"
    )


def round_of(record: RunRecord, which: str) -> int:
    selection = record.selection
    return selection.best_round if which == "best" else selection.final_round


def opened(folder: Path, format: Format) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the network of an export, as the reader of its format opens it."""
    content = (folder / formats.FILES[format]).read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return formats._WRITERS[format][1](content)


def test_with_pytorch_alone_it_predicts_what_the_run_measured(
    scenario: Scenario, record: RunRecord, exported: tuple[str, Path]
) -> None:
    which, folder = exported
    population = open_population(scenario)
    measured = record.predictions(round_of(record, which))["test"]
    for site, name in enumerate(population.names):
        images = torch.from_numpy(population.examples(site, "test").images)
        for format in ("pt2", "torchscript"):
            with torch.inference_mode():
                logits = opened(folder, format)(images)  # type: ignore[arg-type]
            np.testing.assert_allclose(logits.log_softmax(1), measured[name][0], atol=1e-6)
            assert logits.argmax(1).tolist() == measured[name][0].argmax(1).tolist()


def test_loaded_again_it_predicts_what_the_run_measured(
    scenario: Scenario, record: RunRecord, exported: tuple[str, Path]
) -> None:
    which, folder = exported
    population = open_population(scenario)
    measured = record.predictions(round_of(record, which))["test"]
    for source in (folder, record.folder):
        network = trained.load(source, which)  # type: ignore[arg-type]
        for site, name in enumerate(population.names):
            shown = population.shown(site, population.indices[site]["test"])
            np.testing.assert_allclose(
                network.probabilities(shown), np.exp(measured[name][0]), atol=1e-6
            )


def test_the_description_suffices_to_build_network_and_input(
    record: RunRecord, exported: tuple[str, Path]
) -> None:
    which, folder = exported
    known = json.loads((folder / "model.json").read_text())
    assert known["class_names"] == record.population["class_names"]
    assert (known["num_channels"], known["image_size"], known["fit"]) == (3, 16, "stretch")
    assert (known["which"], known["round"]) == (which, round_of(record, which))
    assert known["digest"] == record.run["digest"]
    assert Standard(**known["normalisation"]) == Standard(mean=(0.4,), std=(0.3,))
    network = Mlp(**known["model"]).build(3, 5, 16)
    network.load_state_dict(load_file(folder / "model.safetensors"))
    expected = fedsim.load_model(record.folder, which).state_dict()  # type: ignore[arg-type]
    assert all(torch.equal(t, expected[name]) for name, t in network.state_dict().items())


def test_the_lines_on_the_card_work(
    exported: tuple[str, Path], record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    which, folder = exported
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    programs = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert [len(program.splitlines()) for program in programs] == [3, 3, 3]
    monkeypatch.chdir(folder)
    images = torch.randn(4, 3, 16, 16)
    own = Mlp(widths=(8,)).build(3, 5, 16)
    found = []
    for program in programs:
        names: dict[str, Any] = {"images": images, "network": own}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated")
            exec(program, names)
        found.append(names["probabilities"])
    model = fedsim.load_model(record.folder, which)  # type: ignore[arg-type]
    for probabilities in found:
        torch.testing.assert_close(probabilities, model(images).softmax(1))


def test_the_card_says_what_it_is(exported: tuple[str, Path], record: RunRecord) -> None:
    which, folder = exported
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    for heading in ("Intended use", "Training data", "Results", "Privacy", "Licence and citation"):
        assert f"\n## {heading}\n" in card
    assert f"the {which} round ({round_of(record, which)})" in card
    assert "Synthetic images, which show no patient" in card
    assert "No privacy mechanism was in force" in card
    assert "Yardsticks" not in card
    assert f"Trained by fedsim {record.environment['packages']['fedsim-medical']}." in card
    for key in ("mcmahan2017communication", "li2021model"):
        assert f"@inproceedings{{{key}" in card
    assert "changed as by a scanner of its own (`scanner, mild`)" in card
    assert "Training labels were made wrong on purpose (label noise)" in card
    assert "\nOn images of sets on which no site trained:\n" in card
    assert re.search(r"\| AUROC ↑ \| elsewhere \| [01]\.\d{3} \|", card)
    assert "The run was not finished" not in card
    for site in record.population["sites"]:
        assert f"| {site['name']} | {sum(site['train'])} |" in card


def test_programs_need_nothing_of_ours(exported: tuple[str, Path], tmp_path: Path) -> None:
    _, folder = exported
    for name in ("model.pt", "model.pt2"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    code = (
        "import sys, torch; images = torch.ones(2, 3, 16, 16)\n"
        "one = torch.jit.load('model.pt')(images)\n"
        "other = torch.export.load('model.pt2').module()(images)\n"
        "torch.testing.assert_close(one, other)\n"
        "assert not {'fedsim', 'monai', 'safetensors'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_card_of_a_private_run_says_what_it_promises(tiny: Make, tmp_path: Path) -> None:
    mechanism = {"kind": "client_level", "noise_multiplier": 1.0}
    strategy = {"kind": "weighted_mean", "weights": "uniform"}
    private = tiny(privacy={"mechanism": mechanism, "delta": 1e-2}, strategy=strategy, rounds=1)
    record = fedsim.run(private, out=tmp_path, device="cpu")
    card = (fedsim.export(record.folder) / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "No privacy mechanism" not in card
    assert "site level: epsilon" in card
    assert "The server is trusted" in card


def test_starting_weights_are_named_without_where_they_lay(tiny: Make, tmp_path: Path) -> None:
    file = tmp_path / "secret" / "start.safetensors"
    file.parent.mkdir()
    save_file(Mlp(widths=(8,)).build(1, 2, 16).state_dict(), file)
    scenario = tiny(model={"kind": "mlp", "widths": [8], "weights": str(file)}, rounds=1)
    record = fedsim.run(scenario, out=tmp_path / "runs", device="cpu")
    folder = fedsim.export(record.folder)
    assert "weights: start.safetensors" in (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert not [file.name for file in folder.iterdir() if b"secret" in file.read_bytes()]


def test_an_export_is_the_same_again_and_replaces_only_exports(
    record: RunRecord, tmp_path: Path
) -> None:
    one, other = (fedsim.export(record.folder, out=tmp_path / name) for name in ("a", "b"))
    for file in one.iterdir():
        if file.name != "model.pt":  # torch numbers its classes by process
            assert file.read_bytes() == (other / file.name).read_bytes()
    assert fedsim.export(record.folder, out=one) == one
    (one / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="holds something else than an export"):
        fedsim.export(record.folder, out=one)
    assert (one / "thesis.txt").read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


def test_a_network_that_cannot_be_traced_goes_without_a_program(
    record: RunRecord,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("data-dependent control flow\nand more")

    monkeypatch.setattr(torch.export, "export", refuse)
    folder = fedsim.export(record.folder, out=tmp_path / "out")
    assert (
        "no model.pt2: the network cannot be exported: data-dependent control flow"
        in (caplog.text.splitlines()[-1])
    )
    assert not (folder / "model.pt2").exists()
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "torch.export.load" not in card
    assert "torch.jit.load" in card


class Fickle(torch.nn.Module):
    """Looks at the size of the batch, which a traced program cannot."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :2] * int(len(images) == formats.FOLLOWED)


class Lost(torch.nn.Module):
    """Gives no number."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :2] * torch.nan


@pytest.mark.parametrize("network", [Fickle(), Lost()])
def test_a_program_that_gives_other_logits_is_not_written(network: torch.nn.Module) -> None:
    with pytest.raises(formats.UnfaithfulError, match="gives other logits"):
        formats.write(network, "torchscript", (1, 4, 4))


@pytest.mark.parametrize("format", formats.FILES)
def test_programs_name_no_path_of_this_computer(format: Format) -> None:
    if formats.missing_packages(format):
        pytest.skip("needs the extra `onnx`")
    content = formats.write(Mlp().build(1, 2, 8), format, (1, 8, 8))
    site_packages = str(Path(torch.__file__).parents[1]).encode()
    assert site_packages not in content
    assert b"mlp" not in content.lower()
    assert b"networks.py" not in content


def test_onnx_gives_the_same_logits(record: RunRecord, tmp_path: Path) -> None:
    if formats.missing_packages("onnx"):
        pytest.skip("needs the extra `onnx`")
    folder = fedsim.export(record.folder, out=tmp_path / "out", programs=["onnx"])
    assert {file.name for file in folder.iterdir()} == {
        "MODEL_CARD.md",
        "model.json",
        "model.onnx",
        "model.safetensors",
    }
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    (lines, *_) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    images = torch.randn(5, 3, 16, 16)
    names: dict[str, Any] = {"images": images.numpy()}
    exec(lines.replace("model.onnx", str(folder / "model.onnx")), names)
    expected = fedsim.load_model(record.folder)(images).detach().numpy()
    np.testing.assert_allclose(names["logits"], expected, atol=1e-5)


def test_a_format_without_its_packages_is_refused(
    record: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="format onnx needs packages that are not here: onnx, "):
        fedsim.export(record.folder, out=tmp_path / "out", programs=["onnx"])
    assert not (tmp_path / "out").exists()


def test_what_is_no_run_or_damaged_is_refused(record: RunRecord, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no run folder"):
        fedsim.export(tmp_path)
    with pytest.raises(InputError, match="is neither a run folder"):
        trained.load(tmp_path)
    with pytest.raises(InputError, match="is an export of the best round; for the final one"):
        trained.load(fedsim.export(record.folder, out=tmp_path / "best"), "final")
    folder = fedsim.export(record.folder, out=tmp_path / "out")
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="does not have the checksum"):
        trained.load(folder)
    (folder / "model.json").write_text("{}")
    with pytest.raises(InputError, match=r"model\.json: is damaged"):
        trained.load(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["DenseNet121", "ResNet18", "EfficientNetB0"])
def test_networks_of_monai_are_exported(tiny: Make, tmp_path: Path, name: str) -> None:
    source = {**SYNTHETIC, "image_size": 64, "num_examples": 40}
    scenario = tiny(
        rounds=1,
        data={"source": source, "task": "ordinal"},
        population={"num_sites": 2, "partition": {"kind": "iid", "min_examples": 4}},
        model={"kind": "monai", "name": name},
        evaluation={"metrics": ["loss"], "select_by": "loss", "loss_decomposition": False},
    )
    record = fedsim.run(scenario, out=tmp_path, device="cpu")
    folder = fedsim.export(record.folder, which="final")
    population = open_population(scenario)
    images = torch.from_numpy(population.examples(0, "test").images)
    measured = record.predictions(1)["test"]["site-00"][0]
    for format in ("pt2", "torchscript"):
        with torch.inference_mode():
            found = opened(folder, format)(images).log_softmax(1)  # type: ignore[arg-type]
        np.testing.assert_allclose(found, measured, rtol=1e-4, atol=1e-4)
