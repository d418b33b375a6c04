"""A federation as users of Flower write it, for `flower_simulation.py`.

The apps do what those of Flower's own PyTorch quickstart do, without evaluation.
"""

from __future__ import annotations

import json
import time
from functools import cache
from pathlib import Path

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

client_app = ClientApp()
BATCH_SIZE, LEARNING_RATE = 32, 0.05


@cache
def load(file: str) -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    """Return the network and the data of every site; read once per process."""
    network, sites = torch.load(file, weights_only=False)
    return network, sites


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Train the global model on the site's images for an epoch."""
    torch.set_num_threads(1)
    network, sites = load(str(message.content.config_records["config"]["file"]))
    images, labels = sites[int(context.node_config["partition-id"])]
    network.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), LEARNING_RATE)
    total = 0.0
    for index in torch.randperm(len(labels)).split(BATCH_SIZE):
        optimizer.zero_grad()
        loss = cross_entropy(network(images[index]), labels[index])
        loss.backward()
        optimizer.step()
        total += loss.item() * len(index)
    metrics = MetricRecord({"train_loss": total / len(labels), "num-examples": len(labels)})
    arrays = ArrayRecord(network.state_dict())
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


def make_server_app(file: str, num_rounds: int, rounds: Path) -> ServerApp:
    """Return the app that averages by examples.

    Args:
        file: the network and the data of every site, as `load` reads them.
        num_rounds: of the federation.
        rounds: file that gets the seconds of every round.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        start = time.perf_counter()

        def note(round: int, arrays: ArrayRecord) -> MetricRecord:
            nonlocal start
            now = time.perf_counter()
            with rounds.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({"round": round, "seconds": now - start}) + "\n")
            start = now
            return MetricRecord()

        network, _ = load(file)
        FedAvg(fraction_evaluate=0.0).start(
            grid,
            ArrayRecord(network.state_dict()),
            num_rounds,
            train_config=ConfigRecord({"file": file}),
            evaluate_fn=note,
        )

    return app
