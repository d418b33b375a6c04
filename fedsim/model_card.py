"""The card of an exported model: what it is, how it was made, how good it is, what it is not for.

Headings follow Mitchell et al., Model Cards for Model Reporting, FAccT 2019.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from fedsim import citations, markdown
from fedsim.formats import Format
from fedsim.report import privacy, rows, tables
from fedsim.report.scores import arrowed, describe

if TYPE_CHECKING:
    from fedsim.records import RunRecord
    from fedsim.trained import Trained

NO_PRIVACY = (
    "No privacy mechanism was in force. The weights may reveal images and labels of the training "
    "sites to those who attack them (membership inference, reconstruction); share them as you "
    "would share the images."
)
USE = (
    "Research on federated learning. This is no medical device: it was not validated for the care "
    "of patients, and its results at the sites of a simulation say little of other hospitals, "
    "scanners or patients."
)


PROGRAMS: Mapping[Format, str] = {
    "pt2": """\
With PyTorch alone, of the version that wrote it or one near it:

```python
import torch
network = torch.export.load("model.pt2").module()
probabilities = network(images).softmax(1)
```""",
    "torchscript": """\
With PyTorch alone, old or new:

```python
import torch
network = torch.jit.load("model.pt")
probabilities = network(images).softmax(1)
```""",
    "onnx": """\
With ONNX Runtime; `images` is a numpy array, what comes out are logits:

```python
import onnxruntime
network = onnxruntime.InferenceSession("model.onnx")
(logits,) = network.run(None, {"images": images})
```""",
}
"""Format -> how it is used; each format's lines are run by a test."""


def text(record: RunRecord, network: Trained, programs: Collection[Format]) -> str:
    """Return the card in Markdown.

    Args:
        record: of the run.
        network: what is exported.
        programs: formats of the network itself that lie beside the card.
    """
    known = network.description
    parts = [
        f"# Model card: {known['scenario']}",
        "## Model details",
        *_details(record, network),
        "## Intended use",
        USE,
        "## Training data",
        *_data(record),
        "## Factors",
        *_factors(record),
        "## Training",
        markdown.fenced(_training(record.scenario), "yaml"),
        "## Results",
        *_results(record, known["which"]),
        "## Privacy",
        *_privacy(record),
        "## Limits",
        *_limits(record),
        "## How to use it",
        *_how(known, programs),
        "## Licence and citation",
        *_rights(record),
    ]
    shown = [part if part.startswith("```") else markdown.harmless(part) for part in parts]
    return "\n\n".join(shown) + "\n"


def _privacy(record: RunRecord) -> Iterator[str]:
    found = privacy.balance_of(record)
    if found is None:
        yield NO_PRIVACY
    else:
        yield markdown.table(*privacy.table(found))
        yield from privacy.said(record, found)


def _details(record: RunRecord, network: Trained) -> Iterator[str]:
    known = network.description
    names = ", ".join(f"{n} = {name}" for n, name in enumerate(known["class_names"]))
    size, channels, target = known["image_size"], known["num_channels"], known["target"]
    does = f"tells apart {len(known['class_names'])} classes: {names}"
    if target:
        does = f"predicts a number, {_named(target)}"
    yield (
        f"A network of kind `{known['model']['kind']}` that takes images of {size} x {size} pixels "
        f"with {channels} channel{'s' * (channels > 1)} and {does}. It is the "
        f"{known['which']} round ({known['round']}) of a simulated federated training with "
        f"{record.scenario['strategy']['kind']} at the server and "
        f"{record.scenario['client']['objective']['kind']} at the sites; seed {known['seed']}, "
        f"scenario digest `{known['digest'][:10]}`."
    )
    num = sum(parameter.numel() for parameter in network.network.parameters())
    yield (
        f"{num:,} parameters. Trained by fedsim "
        f"{record.environment.get('packages', {}).get('fedsim-medical', 'of unknown version')}. "
        f"The run: {describe(record)}."
    )


def _data(record: RunRecord) -> Iterator[str]:
    population, source = record.population, record.scenario["data"]["source"]
    kind = f"Images from the source `{' '.join([source['kind'], source.get('name', '')]).strip()}`"
    if population["images"]["synthetic"]:
        kind = "Synthetic images, which show no patient"
    yield f"{kind}. Training, validation and test images by site:"
    splits = ("train", "validation", "test")
    yield markdown.table(
        ("site", *splits),
        [(site["name"], *(str(sum(site[s])) for s in splits)) for site in population["sites"]],
    )
    if apart := ", ".join(f"{p['name']} ({sum(p['test'])})" for p in population["external"]):
        yield f"Tested on, never trained on: {apart}."
    yield from tables.warnings(record)
    found = population["duplicates"]
    if not found["num_groups"]:
        where = "there" if found["across_sites"] is not None else "at one site"
        yield f"No image is {where} twice, pixel for pixel."
    checksums = "\n".join(f"- {name}: `{value}`" for name, value in population["checksums"].items())
    yield f"Checksums:\n\n{checksums}"


def _factors(record: RunRecord) -> Iterator[str]:
    sites = record.scenario["population"]
    yield (
        f"Sites were formed by `{sites['partition']['kind']}`. Results are given pooled and for "
        "the worst site; they were not looked at by age, sex or other properties of patients."
    )
    looks = sites["appearance"]
    yield (
        "Nothing was done to make the images of one site look unlike another's."
        if looks is None
        else f"The images of each site were changed as by a scanner of its own "
        f"(`{', '.join(str(looks[key]) for key in ('kind', 'severity') if looks.get(key))}`)."
    )


def _training(scenario: dict[str, Any]) -> str:
    """Return what decided the training; of a file of weights its name, not where it lay."""
    kept = ("rounds", "model", "client", "cohort", "strategy", "server_optimizer", "privacy")
    shown = {key: scenario[key] for key in kept}
    if start := scenario["model"]["weights"]:
        shown["model"] = {**scenario["model"], "weights": Path(start).name}
    return yaml.safe_dump(shown, sort_keys=False)


def _results(record: RunRecord, which: str) -> Iterator[str]:
    headings = ("metric", "pooled test images", "site mean ± sd", "worst site")
    found = [
        (
            arrowed(row.metric),
            tables.bracketed(row.pooled, row.low, row.high),
            tables.spread(row.site_mean, row.site_sd),
            tables.UNDEFINED
            if row.worst_site is None
            else f"{tables.number(row.worst)} {row.worst_site}",
        )
        for row in rows.results(record)
        if (row.method, row.model) == ("federated", which)
    ]
    yield markdown.table(headings, found)
    yield " ".join(note for note in tables.notes(record) if note != tables.YARDSTICKS)
    apart = [
        (
            arrowed(row["metric"]),
            row["site"],
            tables.bracketed(row["value"], row["low"], row["high"]),
        )
        for row in rows.external(record)
        if (row["method"], row["model"]) == ("federated", which)
    ]
    if apart:
        yield "On images of sets on which no site trained:"
        yield markdown.table(("metric", "set", "value"), apart)


def _limits(record: RunRecord) -> Iterator[str]:
    if not record.finished:
        yield "**The run was not finished when this was exported.**"
    regression = record.scenario["data"]["task"] == "regression"
    yield (
        "One run with one seed: another may end elsewhere. Sites are simulated, and their test "
        "images come from where their training images come from; results elsewhere are likely to "
        "be worse."
        + " Probabilities are calibrated as far as the results above show."
        * (not regression)
    )


def _how(known: dict[str, Any], programs: Collection[Format]) -> Iterator[str]:
    size, channels = known["image_size"], known["num_channels"]
    yield (
        f"`images`: float32, (n, {channels}, {size}, {size}); a picture of another shape is made "
        f"square by `{known['fit']}`. Pixels from 0 to 255 are brought to the network's numbers by "
        f"`{known['normalisation']}` (`unit` divides by 255, `standard` then subtracts the mean "
        "and divides by std, `per_image` gives each image and channel mean 0 and standard "
        f"deviation 1). {_output(known['target'])}"
    )
    own = (
        "Weights into a network of your own with the same names:\n\n```python\n"
        "from safetensors.torch import load_file\n"
        'network.load_state_dict(load_file("model.safetensors"))\n'
        "probabilities = network.eval()(images).softmax(1)\n```"
    )
    for lines in (*(PROGRAMS[format] for format in PROGRAMS if format in programs), own):
        yield lines if not known["target"] else _of_number(lines, known["target"])
    yield "Pictures, brought to size and normalised: `fedsim predict FOLDER PICTURES`."


def _output(target: Mapping[str, Any] | None) -> str:
    """Return what comes out of the network."""
    if target is None:
        return "What comes out are logits, in the order of the classes."
    return (
        f"What comes out, (n, 1), is 0 where {_named(target)} is {target['low']:g} and 1 where it "
        f"is {target['high']:g}."
    )


def _named(target: Mapping[str, Any]) -> str:
    return f"{target['name']} ({target['unit']})" if target["unit"] else str(target["name"])


def _of_number(lines: str, target: Mapping[str, Any]) -> str:
    """Return lines that were written for classes, for a network that predicts a number."""
    low, high = target["low"], target["high"]
    for classes, number in (
        ("probabilities =", f"numbers = {low} + {high - low} *"),
        (".softmax(1)", "[:, 0]"),
        (", what comes out are logits", ""),
        ("logits", "outputs"),
    ):
        lines = lines.replace(classes, number)
    return lines


def _rights(record: RunRecord) -> Iterator[str]:
    yield (
        f"Images: {record.population['licence'] or 'licence not stated'}. What may be done with "
        "weights learned from them follows from it; fedsim itself is Apache-2.0."
    )
    yield markdown.fenced("\n\n".join(citations.of_runs([record])), "bibtex")
