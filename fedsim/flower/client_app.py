"""The ClientApp: a site trains and evaluates."""

from __future__ import annotations

import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from torch import Tensor

from fedsim.data.source import HELD_OUT
from fedsim.flower import wire
from fedsim.flower.client_memory import ClientMemory, Memory
from fedsim.flower.local_training import train
from fedsim.flower.personal_models import personal
from fedsim.flower.workplace import Workplace


def make_client_app(workplace: Workplace, memory: ClientMemory | None = None) -> ClientApp:
    """Return the app that acts for every site; the node's `partition-id` says which.

    Args:
        workplace: of the sites.
        memory: where they keep what is theirs, if they keep anything.
    """
    app, read_model = ClientApp(), wire.LastRead()

    @app.train()
    def _train(message: Message, context: Context) -> Message:
        config = message.content.config_records[wire.CONFIG]
        round, mu = int(str(config[wire.ROUND])), float(str(config.get(wire.PROXIMAL_MU, 0.0)))
        state = read_model(message.content.array_records[wire.ARRAYS])
        site, plan, received = _site(context), wire.read_plan(message), wire.received(message)
        own = _recalled(memory, site, message)
        privacy = workplace.scenario.privacy
        release = None if privacy is None else wire.read_release(message, privacy.mechanism)
        trained = train(workplace, site, round, state, mu, plan, received, own, release)
        if memory is not None:
            counts_in, kept = wire.read_memory(message)
            memory.keep(site, counts_in, trained.memory, kept)
        return wire.train_reply(message, trained)

    @app.evaluate()
    def _evaluate(message: Message, context: Context) -> Message:
        state = read_model(message.content.array_records[wire.ARRAYS])
        site = _site(context)
        if workplace.scenario.client.personalisation is not None:
            round = int(str(message.content.config_records[wire.CONFIG][wire.ROUND]))
            state = personal(workplace, site, round, state, _recalled(memory, site, message))
        groups = [workplace.examples(site, split) for split in HELD_OUT]
        predicted = workplace.network.predict(state, *groups)
        predictions: dict[str, tuple[Tensor, Tensor]] = {
            split: (scores, torch.from_numpy(workplace.population.truth(site, split)))
            for split, scores in zip(HELD_OUT, predicted, strict=True)
        }
        return wire.evaluate_reply(message, predictions, sum(map(len, groups)))

    return app


def _recalled(memory: ClientMemory | None, site: int, message: Message) -> Memory:
    """Return what a site is to use of what it kept."""
    return {} if memory is None else memory.recall(site, wire.read_memory(message)[1])


def _site(context: Context) -> int:
    return int(context.node_config["partition-id"])
