"""For each item another one, of another species: whose song is mixed in. The same whatever the order or the batch."""

from __future__ import annotations

from collections.abc import Sequence

from birdmml import files
from birdmml.errors import UsageError


class Partners:
    """Chosen among N items by a SHA-256 of seed and item, all those of other labels equally likely."""

    def __init__(self, ids: Sequence[str], labels: Sequence[int], seed: int) -> None:
        if len(set(labels)) < 2:
            raise UsageError(
                f"{len(ids)} items of {len(set(labels))} species: a song to mix in must be of another species; "
                "choose another kind of corruption, or a split with two species"
            )
        self.seed = seed
        # By label and id: a species is one block, which is stepped over, and the order given plays no part.
        self._order = sorted(range(len(ids)), key=lambda i: (labels[i], ids[i]))
        self._label = dict(zip(ids, labels, strict=True))
        self._blocks: dict[int, tuple[int, int]] = {}
        for place, i in enumerate(self._order):
            start, _ = self._blocks.get(labels[i], (place, place))
            self._blocks[labels[i]] = (start, place + 1)

    def of(self, item_id: str, attempt: int = 0) -> int:
        """The number, in the order given, of the item's partner; another draw for each `attempt`."""
        start, stop = self._blocks[self._label[item_id]]
        others = len(self._order) - (stop - start)
        drawn = int(files.digest(["partner", self.seed, item_id, attempt]), 16) % others
        return self._order[drawn if drawn < start else drawn + stop - start]
