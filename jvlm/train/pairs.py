"""Which image-text pairs the contrastive batch of a step holds: index arithmetic on (seed, step)."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from jvlm.images.shards import ShardReader
from jvlm.train.order import permute
from jvlm.train.world import ONE_PROCESS, World

_BLOCKS = 0x27D4EB2F  # keeps the order of blocks apart from that of pairs


@dataclass
class PairOrder:
    """The order of `count` pairs, epoch after epoch.

    Where pairs come from several sources, their kind alone tells most of a batch apart and little else is learned.
    With a `block` above 1 so many pairs of one source follow one another, blocks in random order: a batch of 96 in
    blocks of 48 has 47 negatives of a pair's own source. (Nomic Embed, Nussbaum et al. 2024: whole batches of one.)
    """

    count: int
    batch_size: int
    seed: int
    sources: NDArray[np.int64] | None = None
    """Number of each pair's source ``[count]``; None: pairs come in random order."""
    block: int = 1
    _blocks: tuple[int, NDArray[np.int64]] | None = field(default=None, init=False, repr=False)

    @classmethod
    def of(cls, shards: ShardReader, batch_size: int, seed: int, block: int = 1) -> "PairOrder":
        """Of a set of shards, whose records name their `source`; they are read where blocks are asked for."""
        if block == 1:
            return cls(len(shards), batch_size, seed)
        names = [str(shards.record(i)["meta"].get("source", "")) for i in range(len(shards))]
        return cls(len(shards), batch_size, seed, np.unique(names, return_inverse=True)[1], block)

    def numbers(self, step: int, world: World = ONE_PROCESS) -> NDArray[np.int64]:
        """This process's pairs in the batch of a step, counted from 0."""
        per_epoch = self.count // self.batch_size  # the rest of an epoch would repeat a pair inside a batch
        epoch, at = divmod(step, per_epoch)
        places = np.asarray(world.share(range(at * self.batch_size, (at + 1) * self.batch_size)), dtype=np.int64)
        if self.sources is None:
            return permute(places, self.count, self.seed, epoch)
        if self._blocks is None or self._blocks[0] != epoch:
            self._blocks = epoch, self._epoch(self.sources, epoch)
        return self._blocks[1][places]

    def _epoch(self, sources: NDArray[np.int64], epoch: int) -> NDArray[np.int64]:
        order = permute(np.arange(self.count), self.count, self.seed, epoch)
        order = order[np.argsort(sources[order], kind="stable")]
        start = int(permute(0, self.block, self.seed ^ _BLOCKS, epoch))  # a block of two sources has others next time
        blocks = [order[:start], *(order[at : at + self.block] for at in range(start, self.count, self.block))]
        shuffled = permute(np.arange(len(blocks)), len(blocks), self.seed ^ _BLOCKS, epoch)
        return np.concatenate([blocks[i] for i in shuffled])
