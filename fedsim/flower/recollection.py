"""Which round's memory each site is to use: the server's half of `fedsim.flower.client_memory`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from flwr.app import Message, RecordDict

from fedsim.flower import wire


class Recollection:
    """The rounds in which the training of each site counted."""

    def __init__(self) -> None:
        self._counted: dict[int, list[int]] = {}

    def note(self, round: int, sites: Iterable[int]) -> None:
        """Note whose training counted in a round."""
        for site in sites:
            self._counted.setdefault(site, []).append(round)

    def address(
        self, round: int, messages: Mapping[int, Message], checkpoints: Collection[int]
    ) -> None:
        """Put into messages which memory their site is to use.

        Args:
            round: that is going on.
            messages: site -> message; those of equal content share the new one too, where their
                sites have the same history.
            checkpoints: rounds after which the run can still go on.
        """
        before = {site: message.content for site, message in messages.items()}
        shared: dict[tuple[int, tuple[int, ...]], RecordDict] = {}
        for site, message in messages.items():
            kept = self._kept(site, checkpoints)
            key = id(before[site]), kept
            if key not in shared:
                record = wire.memory_record(round, kept)
                shared[key] = RecordDict({**before[site], wire.MEMORY: record})
            message.content = shared[key]

    def _kept(self, site: int, checkpoints: Collection[int]) -> tuple[int, ...]:
        """Return the rounds whose memory may be asked for, the present one last."""
        counted = self._counted.get(site, [])
        places = {bisect_right(counted, end) for end in checkpoints} | {len(counted)}
        return tuple(counted[place - 1] for place in sorted(places - {0}))

    def state(self) -> dict[str, Any]:
        """Return all that is needed to go on, as plain data."""
        return {str(site): list(rounds) for site, rounds in sorted(self._counted.items())}

    def restore(self, state: Mapping[str, list[int]]) -> None:
        """Go on from what `state` returned."""
        self._counted = {int(site): list(rounds) for site, rounds in state.items()}
