"""Personal models: what they are against direct implementations, and that they stay at home."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Message
from torch import Tensor
from torch.nn.functional import cross_entropy

from fedsim.engines.inline import InlineGrid
from fedsim.errors import InputError
from fedsim.flower.workplace import Workplace
from fedsim.records import RunRecord, checkpoint
from fedsim.scenario import Scenario, open_population
from fedsim.simulate import resume, run
from fedsim.trained import load_model

Make = Callable[..., Scenario]
Broken = Callable[[Scenario, int], Path]
State = dict[str, Tensor]
CPU = torch.device("cpu")
LR, STEPS = 0.2, 3
ON_ALL = {"steps": STEPS, "batch_size": 1000, "optimizer": {"kind": "sgd", "learning_rate": LR}}
SOME = {"kind": "fixed_size", "num_sites": 2}
WITHOUT_LENS = {"loss_decomposition": False}
CNN = {"kind": "small_cnn", "widths": [8]}
FED_BN = {"kind": "private_parameters", "names": ["normalisation"]}
FED_PER = {"kind": "private_parameters", "names": ["3.*"]}
KINDS: dict[str, dict[str, Any]] = {
    "fed_per": FED_PER,
    "ditto": {"kind": "ditto", "weight": 0.5},
    "fine_tuning": {"kind": "fine_tuning", "epochs": 2},
}
every_kind = pytest.mark.parametrize("personalisation", KINDS.values(), ids=KINDS)


def scenario(tiny: Make, personalisation: dict[str, Any] | None, **sections: Any) -> Scenario:
    client = {**sections.pop("client", ON_ALL), "personalisation": personalisation}
    strategy = {"kind": "weighted_mean", "weights": "uniform"}
    return tiny(
        **{"client": client, "strategy": strategy, "evaluation": WITHOUT_LENS, "rounds": 4}
        | sections
    )


def final(record: RunRecord) -> State:
    path = checkpoint.path_of(record.folder, record.selection.final_round)
    model: State = checkpoint.load(path)["model"]
    return model


def bits(folder: Path) -> dict[str, bytes]:
    files = [folder / "rounds.jsonl", folder / "metrics.jsonl"]
    files += [*(folder / "checkpoints").iterdir(), *(folder / "memory").rglob("*.safetensors")]
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(files)}


class Reference:
    """The perceptron of the scenario on all examples of a site at once, in double precision."""

    def __init__(self, scenario: Scenario) -> None:
        self.place = Workplace(scenario, open_population(scenario), CPU)
        self.sites = range(len(self.place.population))
        self.start = {name: t.double() for name, t in self.place.network.initial.items()}

    def logits(self, w: State, images: Tensor) -> Tensor:
        hidden = images.flatten(1).double() @ w["1.weight"].T + w["1.bias"]
        return hidden.clamp(min=0) @ w["3.weight"].T + w["3.bias"]

    def descend(
        self, w: State, site: int, steps: int = STEPS, near: tuple[float, State] | None = None
    ) -> State:
        examples = self.place.examples(site, "train")
        for _ in range(steps):
            leaves = {name: t.clone().requires_grad_() for name, t in w.items()}
            loss = cross_entropy(self.logits(leaves, examples.images), examples.labels)
            if near is not None:
                weight, centre = near
                loss = loss + weight / 2 * sum((leaves[n] - centre[n]).pow(2).sum() for n in centre)
            gradients = torch.autograd.grad(loss, list(leaves.values()))
            w = {n: t - LR * g for (n, t), g in zip(w.items(), gradients, strict=True)}
        return w

    def assert_judged_by(self, record: RunRecord, models: dict[int, State]) -> None:
        """Assert that the predictions after the last round are those of these models."""
        found = record.predictions(record.selection.final_round)["test"]
        for site, model in models.items():
            images = self.place.examples(site, "test").images
            expected = self.logits(model, images).log_softmax(1)
            np.testing.assert_allclose(found[f"site-{site:02d}"][0], expected, rtol=1e-3, atol=1e-5)


def cohorts(record: RunRecord) -> list[list[int]]:
    return [[int(name[-2:]) for name in row["cohort"]] for row in record.rounds]


def mean(models: Iterable[State]) -> State:
    models = list(models)
    return {name: sum(m[name] for m in models) / len(models) for name in models[0]}  # type: ignore[misc]


def assert_close(found: State, expected: State) -> None:
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name].double(), tensor, rtol=2e-4, atol=2e-6)


def test_ditto_trains_a_second_model_near_the_global_one(tiny: Make, tmp_path: Path) -> None:
    with_it = scenario(tiny, KINDS["ditto"], cohort=SOME)
    record = run(with_it, out=tmp_path, name="ditto", device="cpu")
    reference = Reference(with_it)
    w, own = reference.start, dict[int, State]()
    for cohort in cohorts(record):
        before = w
        own |= {k: reference.descend(own.get(k, w), k, near=(0.5, w)) for k in cohort}
        w = mean(reference.descend(before, k) for k in cohort)
    assert_close(final(record), w)
    assert set(own) == {0, 1, 2}
    reference.assert_judged_by(record, own)


def test_a_site_that_has_not_trained_is_judged_by_the_global_model(
    tiny: Make, tmp_path: Path
) -> None:
    with_it = scenario(tiny, KINDS["ditto"], cohort=SOME, rounds=1)
    record = run(with_it, out=tmp_path, device="cpu")
    (absent,) = {0, 1, 2} - set(cohorts(record)[0])
    model = {name: tensor.double() for name, tensor in final(record).items()}
    Reference(with_it).assert_judged_by(record, {absent: model})


@pytest.mark.parametrize("kind", ["ditto", "fine_tuning"])
def test_the_global_model_is_that_without_personal_ones(
    tiny: Make, tmp_path: Path, kind: str
) -> None:
    client = {"epochs": 1, "batch_size": 16, "optimizer": ON_ALL["optimizer"]}
    plain = run(scenario(tiny, None, client=client), out=tmp_path, device="cpu", name="plain")
    own = run(scenario(tiny, KINDS[kind], client=client), out=tmp_path, device="cpu", name="own")
    assert all(torch.equal(t, final(own)[name]) for name, t in final(plain).items())
    assert [row["train_loss"] for row in own.rounds] == [row["train_loss"] for row in plain.rounds]
    assert [row["bytes_up"] for row in own.rounds] == [row["bytes_up"] for row in plain.rounds]
    assert own.metrics != plain.metrics


def test_fine_tuning_starts_from_the_global_model_and_keeps_nothing(
    tiny: Make, tmp_path: Path
) -> None:
    with_it = scenario(tiny, KINDS["fine_tuning"])
    record, reference = run(with_it, out=tmp_path, device="cpu"), Reference(with_it)
    w = {name: tensor.double() for name, tensor in final(record).items()}
    tuned = {site: reference.descend(w, site, steps=2) for site in reference.sites}
    reference.assert_judged_by(record, tuned)
    assert not (record.folder / "memory").exists()


def test_private_parameters_are_trained_at_home(tiny: Make, tmp_path: Path) -> None:
    with_it = scenario(tiny, FED_PER, cohort=SOME)
    record, reference = run(with_it, out=tmp_path, device="cpu"), Reference(with_it)
    head = {name: t for name, t in reference.start.items() if name.startswith("3.")}
    body = {name: t for name, t in reference.start.items() if name not in head}
    heads = dict.fromkeys(reference.sites, head)
    for cohort in cohorts(record):
        local = {k: reference.descend({**body, **heads[k]}, k) for k in cohort}
        heads |= {k: {name: local[k][name] for name in head} for k in cohort}
        body = mean({name: model[name] for name in body} for model in local.values())
    assert_close(final(record), body)
    assert all(torch.equal(final(record)[name], head[name].float()) for name in head)
    reference.assert_judged_by(record, {k: {**body, **heads[k]} for k in reference.sites})


@pytest.mark.parametrize("personalisation", [FED_BN, {**FED_BN, "names": ["1.*", "6.bias"]}])
def test_what_is_private_is_in_no_message(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, personalisation: dict[str, Any]
) -> None:
    seen: dict[str, set[str]] = {}

    class Tapped(InlineGrid):
        def _answers(self, messages: Any) -> Iterator[Message]:
            for message in messages:
                note(f"to {message.metadata.message_type}", message)
            for reply in super()._answers(messages):
                note(f"from {reply.metadata.message_type}", reply)
                yield reply

    def note(which: str, message: Message) -> None:
        for record in message.content.array_records.values():
            seen.setdefault(which, set()).update(record)

    monkeypatch.setattr("fedsim.execution.InlineGrid", Tapped)
    with_it = scenario(tiny, personalisation, model=CNN, rounds=2)
    record = run(with_it, out=tmp_path, name="with", device="cpu")
    private = {"1.weight", "1.bias"} | {n for n in personalisation["names"] if n == "6.bias"}
    everything = set(final(record))
    assert private < everything
    for which in ("to train", "from train", "to evaluate"):
        assert seen[which] == everything - private
    assert seen["from evaluate"] == {"scores", "labels"}
    plain = run(scenario(tiny, None, model=CNN, rounds=2), out=tmp_path, name="plain", device="cpu")
    for row, usual in zip(record.rounds, plain.rounds, strict=True):
        assert row["bytes_up"] == row["bytes_down"] < usual["bytes_up"]


def test_batch_statistics_are_private_with_their_layer(tiny: Make) -> None:
    from clients.personalisation import PrivateParameters

    network = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.LayerNorm(4)
    )
    found = PrivateParameters().private(network)
    statistics = {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert found == {"1.weight", "1.bias", "2.weight", "2.bias", *statistics}


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["head.*"], r"'head\.\*' fits no parameter of this network, which has 1\.weight"),
        (["normalisation"], "'normalisation' fits no parameter"),
        (["*"], "every parameter is private"),
    ],
)
def test_names_that_leave_nothing_or_all_are_refused_before_training(
    tiny: Make, tmp_path: Path, names: list[str], complaint: str
) -> None:
    wrong = scenario(tiny, {"kind": "private_parameters", "names": names})
    with pytest.raises(InputError, match=complaint):
        run(wrong, out=tmp_path, name="never", device="cpu")
    assert not (tmp_path / "never").exists()


def test_there_is_no_global_model_to_load(tiny: Make, tmp_path: Path) -> None:
    record = run(scenario(tiny, FED_PER, rounds=1), out=tmp_path, device="cpu")
    with pytest.raises(InputError, match="no global model to load"):
        load_model(record.folder)


@every_kind
def test_resumes_to_the_same_bits(
    tiny: Make, tmp_path: Path, broken: Broken, personalisation: dict[str, Any]
) -> None:
    both = scenario(
        tiny,
        personalisation,
        client={**ON_ALL, "regulariser": {"kind": "control_variates"}},
        strategy={"kind": "scaffold"},
        cohort=SOME,
    )
    whole = run(both, out=tmp_path, name="whole", device="cpu")
    folder = broken(both, 2)
    assert bits(resume(folder).folder) == bits(whole.folder)


@pytest.mark.slow
@every_kind
def test_bits_do_not_depend_on_workers(
    tiny: Make, tmp_path: Path, personalisation: dict[str, Any]
) -> None:
    with_it = scenario(tiny, personalisation, cohort=SOME)
    one, two = (run(with_it, out=tmp_path, name=f"w{n}", device="cpu", workers=n) for n in (1, 2))
    assert bits(one.folder) == bits(two.folder)
