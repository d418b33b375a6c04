"""What to cite: the BibTeX of the parts that a scenario uses, of its images and of what ran it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from fedsim.data.monai_transforms import MonaiTransforms
from fedsim.errors import InputError
from fedsim.models.monai_network import MonaiNetwork
from fedsim.records import RunRecord
from fedsim.scenario import Scenario, recorded
from fedsim.scenario.promises import is_private

FLOWER = """@misc{beutel2020flower,
  title = {Flower: A Friendly Federated Learning Research Framework},
  author = {Beutel, Daniel J. and Topal, Taner and Mathur, Akhil and Qiu, Xinchi and
            Fernandez-Marques, Javier and Gao, Yan and Sani, Lorenzo and Li, Kwing Hei and
            Parcollet, Titouan and {de Gusm{\\~a}o}, Pedro Porto Buarque and Lane, Nicholas D.},
  year = {2020},
  eprint = {2007.14390},
  archiveprefix = {arXiv},
}"""
PYTORCH = """@inproceedings{paszke2019pytorch,
  title = {{PyTorch}: An Imperative Style, High-Performance Deep Learning Library},
  author = {Paszke, Adam and Gross, Sam and Massa, Francisco and Lerer, Adam and others},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {32},
  year = {2019},
}"""
MONAI = """@misc{cardoso2022monai,
  title = {{MONAI}: An open-source framework for deep learning in healthcare},
  author = {Cardoso, M. Jorge and Li, Wenqi and Brown, Richard and Ma, Nic and Kerfoot, Eric and
            others},
  year = {2022},
  eprint = {2211.02701},
  archiveprefix = {arXiv},
}"""
SCIKIT_LEARN = """@article{pedregosa2011scikit,
  title = {Scikit-learn: Machine Learning in {Python}},
  author = {Pedregosa, Fabian and Varoquaux, Ga{\\"e}l and Gramfort, Alexandre and others},
  journal = {Journal of Machine Learning Research},
  volume = {12},
  pages = {2825--2830},
  year = {2011},
}"""
OPACUS = """@misc{yousefpour2021opacus,
  title = {Opacus: User-Friendly Differential Privacy Library in {PyTorch}},
  author = {Yousefpour, Ashkan and Shilov, Igor and Sablayrolles, Alexandre and Testuggine, Davide
            and Prasad, Karthik and Malek, Mani and Nguyen, John and Ghosh, Sayan and
            Bharadwaj, Akash and Zhao, Jessica and Cormode, Graham and Mironov, Ilya},
  year = {2021},
  eprint = {2109.12298},
  archiveprefix = {arXiv},
}"""
DP_ACCOUNTING = """@article{doroshenko2022connect,
  title = {Connect the Dots: Tighter Discrete Approximations of Privacy Loss Distributions},
  author = {Doroshenko, Vadym and Ghazi, Badih and Kamath, Pritish and Kumar, Ravi and
            Manurangsi, Pasin},
  journal = {Proceedings on Privacy Enhancing Technologies},
  year = {2022},
  note = {as implemented in dp\\_accounting},
}"""
ACCOUNTANTS = (DP_ACCOUNTING, OPACUS)
"""Under every ledger."""
STACK = (FLOWER, PYTORCH, SCIKIT_LEARN)
"""Under every run: the messages, the training, the metrics."""
SOFTWARE = (*STACK, *ACCOUNTANTS, MONAI)


def of_scenarios(scenarios: Iterable[Scenario]) -> list[str]:
    """Return the BibTeX entries of scenarios, each once: methods, images, software.

    Raises:
        DataError: if the images are described in a file that is missing or not as declared.
    """
    return _once(
        [
            entry
            for scenario in scenarios
            for entry in (
                *_of_parts(scenario),
                scenario.data.source.facts().citation,
                *_software(scenario.resolved()),
            )
        ]
    )


def of_runs(records: Iterable[RunRecord]) -> list[str]:
    """Return the BibTeX entries of runs; of images what was known of them when a run began."""
    return _once(
        [
            entry
            for record in records
            for entry in (
                *_recorded(record.scenario),
                record.population["citation"],
                *_software(record.scenario),
            )
        ]
    )


def _software(resolved: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the entries of what runs a scenario, given as plain data."""
    return (*STACK, *ACCOUNTANTS) if is_private(resolved) else STACK


def _once(entries: Iterable[str]) -> list[str]:
    """Return the entries in their order, of those with the same key the first; software last."""
    by_key = {entry.partition(",")[0].strip(): entry.strip() for entry in entries if entry}
    for entry in SOFTWARE:
        key = entry.partition(",")[0]
        if key in by_key:
            by_key[key] = by_key.pop(key)
    return list(by_key.values())


def _recorded(scenario: Mapping[str, Any]) -> Iterator[str]:
    """Yield the entries of a recorded scenario; none if a package that it needs is gone."""
    try:
        yield from _of_parts(recorded(scenario, "scenario.yaml"))
    except InputError:
        return


def _of_parts(value: Any) -> Iterator[str]:
    """Yield the references of a part of a scenario and of all parts inside it."""
    if isinstance(value, BaseModel):
        yield from (getattr(value, name, "") for name in ("reference", "paper"))
        if isinstance(value, MonaiNetwork | MonaiTransforms):
            yield MONAI
        for name in type(value).model_fields:
            yield from _of_parts(getattr(value, name))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _of_parts(item)
