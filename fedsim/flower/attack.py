"""What attackers make of their replies, between the sites and the strategy.

Replies are held back only in a round with an omniscient attack, which needs the honest ones first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain

import torch
from flwr.app import ArrayRecord, Message
from torch import Tensor

from fedsim.adversaries import Adversary, Attackers, OmniscientAttack, UpdateAttack
from fedsim.flower import wire
from fedsim.flower.strategy import add
from fedsim.flower.updates import Stacked
from fedsim.seeds import Streams

Update = Mapping[str, Tensor]


class Attack:
    """The attacks of one run, round by round.

    Args:
        attackers: who they are.
        buffers: names of the model's buffers, which stay as they are.
        streams: of the scenario.
        device: where updates are formed.
    """

    def __init__(
        self,
        attackers: Attackers,
        buffers: Collection[str],
        streams: Streams,
        device: torch.device,
    ) -> None:
        self._attackers, self._buffers = attackers, buffers
        self._streams, self._device = streams, device
        self._starts: Mapping[int, int] = {}
        self._parts: dict[int, list[Adversary]] = {}

    def begin(self, starts: Mapping[int, int]) -> None:
        """Begin a round.

        Args:
            starts: site that trains -> the round that it started in.
        """
        found = {site: self._attackers.at(site, round) for site, round in starts.items()}
        self._starts = starts
        self._parts = {site: parts for site, parts in found.items() if parts}

    @property
    def sites(self) -> Collection[int]:
        """Who attacks in the round."""
        return self._parts.keys()

    def forged(
        self, replies: Iterable[tuple[int, Message]], model: Mapping[str, Tensor]
    ) -> Iterator[Message]:
        """Yield the replies of the round as the strategy gets them, in the order given.

        Args:
            replies: of sites that trained, brought up to date.
            model: the current global model.
        """
        start, together = wire.to_arrays(model), dict[int, Update]()
        if omniscient := self._omniscient():
            replies = list(replies)
            honest = [_model(reply) for site, reply in replies if site not in self._parts]
            known = self._updates(honest or [start], start)  # nobody honest: nothing new is known
            together = {key: part.forge(known) for key, part in omniscient.items()}
        for site, reply in replies:
            if site in self._parts:
                self._forge(site, reply, start, together)
            yield reply

    def _omniscient(self) -> dict[int, OmniscientAttack]:
        parts = chain.from_iterable(self._parts.values())
        return {id(part): part for part in parts if isinstance(part, OmniscientAttack)}

    def _forge(
        self, site: int, reply: Message, start: ArrayRecord, together: Mapping[int, Update]
    ) -> None:
        """Put what a site sends into its reply."""
        parts = [p for p in self._parts[site] if isinstance(p, UpdateAttack | OmniscientAttack)]
        if not parts:
            return
        local = _model(reply)
        updates = self._updates([local], start)
        update: Update = {name: updates[name][0] for name in updates}
        rng = self._streams.numpy("adversary", round=self._starts[site], site=site)
        for part in parts:
            update = (
                part.forge(update, rng) if isinstance(part, UpdateAttack) else together[id(part)]
            )
        reply.content[wire.ARRAYS] = wire.to_arrays(
            {
                name: add(wire.to_tensor(start[name]), update[name])
                if name in update
                else wire.to_tensor(array)
                for name, array in local.items()
            }
        )

    def _updates(self, local: list[ArrayRecord], start: ArrayRecord) -> Stacked:
        names = [name for name in local[0] if name not in self._buffers]
        return Stacked(names, start, local, self._device)


def _model(reply: Message) -> ArrayRecord:
    return reply.content.array_records[wire.ARRAYS]
