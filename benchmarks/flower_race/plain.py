"""A federation as users of Flower write it, for `flower_simulation.py`.

The apps do what those of Flower's own PyTorch quickstart do. A file holds their task: the network,
and for each site its images and labels for training and for evaluation.
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
def load(file: str) -> tuple[nn.Module, list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]]:
    """Return the network, and training and held-out data of every site; read once per process."""
    network, training, held_out = torch.load(file, weights_only=False)
    return network, training, held_out


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Train the global model on the site's images for an epoch."""
    torch.set_num_threads(1)
    network, training, _ = load(str(message.content.config_records["config"]["file"]))
    images, labels = training[int(context.node_config["partition-id"])]
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


@client_app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Return loss and accuracy of the global model on the site's held-out images."""
    torch.set_num_threads(1)
    network, _, held_out = load(str(message.content.config_records["config"]["file"]))
    images, labels = held_out[int(context.node_config["partition-id"])]
    network.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    network.eval()
    with torch.no_grad():
        logits = network(images)
    values = {
        "eval_loss": cross_entropy(logits, labels).item(),
        "eval_accuracy": (logits.argmax(1) == labels).float().mean().item(),
        "num-examples": len(labels),
    }
    return Message(RecordDict({"metrics": MetricRecord(values)}), reply_to=message)


def make_server_app(
    file: str, num_rounds: int, fraction_evaluate: float, rounds: Path
) -> ServerApp:
    """Return the app that averages by examples.

    Args:
        file: the network and the data of every site, as `load` reads them.
        num_rounds: of the federation.
        fraction_evaluate: share of the sites that evaluate in every round.
        rounds: file that gets the seconds of every round.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        start = time.perf_counter()

        def note(round: int, arrays: ArrayRecord) -> None:
            nonlocal start
            now = time.perf_counter()
            with rounds.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({"round": round, "seconds": now - start}) + "\n")
            start = now

        network, _, _ = load(file)
        config = ConfigRecord({"file": file})
        FedAvg(fraction_evaluate=fraction_evaluate).start(
            grid,
            ArrayRecord(network.state_dict()),
            num_rounds,
            train_config=config,
            evaluate_config=config,
            evaluate_fn=note,
        )

    return app
