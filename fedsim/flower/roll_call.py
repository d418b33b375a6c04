"""Which nodes of one of Flower's runtimes are there, and which sites they are."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from fedsim.errors import InputError
from fedsim.flower import wire
from fedsim.flower.runtime_grid import exchange

WAIT_S = 300.0
"""Seconds that all nodes get to be there."""
LOOK_S = 0.5
"""Seconds between looks for them."""


@dataclass(frozen=True)
class Node:
    """One node of a runtime.

    Args:
        id: by which Flower knows it.
        site: its number.
        num_sites: of the study, as the node was told.
        own: what it says of images of its own, or None if it has none.
    """

    id: int
    site: int
    num_sites: int
    own: dict[str, Any] | None


def introduce(site: int, num_sites: int, own: dict[str, Any] | None) -> ConfigRecord:
    """Return what a node says of itself."""
    said = {} if own is None else {wire.OWN: json.dumps(own)}
    return ConfigRecord({wire.SITE: site, wire.NUM_SITES: num_sites, **said})


def roll_call(grid: Grid, task: ConfigRecord) -> list[Node]:
    """Wait for all nodes and return them in site order.

    Args:
        grid: reaches them.
        task: what every client needs to know.

    Raises:
        InputError: if some are not there in time, or two are the same site.
    """
    deadline = time.monotonic() + WAIT_S
    found: dict[int, Node] = {}
    while True:
        new = [node for node in grid.get_node_ids() if node not in found]
        found |= {node.id: node for node in _ask(grid, new, task)}
        expected = max((node.num_sites for node in found.values()), default=0)
        if found and len(found) >= expected:
            break
        if time.monotonic() > deadline:
            there = ", ".join(str(site) for site in sorted(n.site for n in found.values()))
            raise InputError(
                f"after {WAIT_S:.0f} s, {len(found)} of {expected or 'unknown'} sites are there"
                + f": {there}" * bool(found)
            )
        time.sleep(LOOK_S)
    nodes = sorted(found.values(), key=lambda node: node.site)
    if [(n.site, n.num_sites) for n in nodes] != [(s, len(nodes)) for s in range(len(nodes))]:
        said = "; ".join(f"partition-id={n.site} num-partitions={n.num_sites}" for n in nodes)
        raise InputError(
            f"{len(nodes)} nodes must be the sites 0 to {len(nodes) - 1}, they say: {said}"
        )
    return nodes


def _ask(grid: Grid, nodes: list[int], task: ConfigRecord) -> Iterator[Node]:
    messages = [Message(RecordDict(), node, MessageType.QUERY) for node in nodes]
    for reply in exchange(grid, messages, task):
        if reply.has_error():
            raise InputError(f"a node cannot say which site it is: {reply.error.reason}")
        said = reply.content.config_records[wire.CONFIG]
        own = said.get(wire.OWN)
        yield Node(
            reply.metadata.src_node_id,
            int(str(said[wire.SITE])),
            int(str(said[wire.NUM_SITES])),
            None if own is None else json.loads(str(own)),
        )
