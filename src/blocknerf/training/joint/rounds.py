"""Neighbouring blocks that learn at the same time, in rounds. Between rounds, they exchange renders of their borders.

Within a round, blocks do not affect each other, so it does not matter which process trains which block, nor in which
order. If a run is killed at any moment, all blocks have a state of the same round: all are first written as
`side_by_side`, then all as `checkpoint`.
"""

import time
from collections.abc import Callable, Iterable

import torch

from blocknerf.core.config.training import TrainingConfig
from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.training.block.checkpoint import CHECKPOINT, SIDE_BY_SIDE
from blocknerf.training.block.neighbour_targets import NEIGHBOURS, NeighbourTargets
from blocknerf.training.block.trainer import BlockNeRFTrainer, BlockResult
from blocknerf.training.joint.exchange import ConsistencyExchange


class JointTraining:
    """Trains the blocks of this process, together with those of other processes through `exchange`."""

    def __init__(
        self,
        config: TrainingConfig,
        trainers: Iterable[tuple[BlockNeRFTrainer, NeighbourTargets]],
        exchange: ConsistencyExchange,
        learned: Iterable[str],
        read_learned: Callable[[str], BlockNeRF],
    ):
        """`trainers` are the blocks of this process, each with its targets. `learned` ones only render for others."""
        pairs = [(trainer.spec.id, trainer, targets) for trainer, targets in trainers]
        self.trainers = {block_id: trainer for block_id, trainer, _ in pairs}
        self.targets = {block_id: targets for block_id, _, targets in pairs}
        self.exchange, self.group = exchange, exchange.group
        self.learned = {block_id: read_learned(block_id) for block_id in learned}
        self.read_learned = read_learned
        self.save_every_s = 60 * config.checkpoint_minutes

    def train(self, should_stop: Callable[[], bool] = lambda: False) -> list[BlockResult]:
        """Trains all blocks to the end of their budgets. A finished block keeps rendering for its neighbours.

        If `should_stop` returns True, saves and raises KeyboardInterrupt.
        """
        number, saved_s = self._resume(), time.monotonic()
        results = []
        for trainer in self.trainers.values():
            trainer.metrics.start(trainer.step)
        try:
            while True:
                for trainer in self.trainers.values():
                    while trainer.fraction < 1 and trainer.step < number * self.exchange.every and not should_stop():
                        trainer.train_iteration()
                ended = [block_id for block_id, trainer in self.trainers.items() if trainer.fraction >= 1]
                stop, any_ended = self.group.any(should_stop()), self.group.any(bool(ended))
                if stop or any_ended or self.group.any(time.monotonic() - saved_s >= self.save_every_s):
                    self._save(required=stop)
                    saved_s = time.monotonic()
                results += [self._finish(block_id) for block_id in ended]
                if stop:
                    raise KeyboardInterrupt
                if not self.group.any(bool(self.trainers)):
                    return results
                number += 1
                models = {block_id: trainer.model for block_id, trainer in self.trainers.items()}
                self.exchange(number, models | self.learned, self.targets)
        finally:
            for trainer in self.trainers.values():
                trainer.metrics.close()

    def _resume(self) -> int:
        """Restores all blocks to the same round, and returns its number; 0 if none was begun."""
        for name in (CHECKPOINT, SIDE_BY_SIDE):
            rounds = [_saved_round(trainer, name) for trainer in self.trainers.values()]
            lowest_highest = torch.tensor([min(rounds, default=2**31), max(rounds, default=-1)])
            both = torch.stack(self.group.gather(lowest_highest))
            lowest, highest = int(both[:, 0].min()), int(both[:, 1].max())
            if lowest >= highest:
                for trainer in self.trainers.values():
                    if trainer.resume(name):
                        log.info("Block %s resumes at step %d.", trainer.spec.id, trainer.step)
                return max(highest, 0)
        raise UserError(
            "Blocks learn side by side from their first step, but some of these have learned longer than others. Name "
            "in --blocks those that began together, or train all anew with --overwrite."
        )

    def _save(self, required: bool) -> None:
        """Saves all blocks of all processes, or none. If it is not `required`, a full disk is only a warning."""
        failed: UserError | None = None
        for trainer in self.trainers.values():
            try:
                trainer.checkpoint.prepare()
            except UserError as error:
                failed = error
        if self.group.any(failed is not None):
            if required:
                raise failed or UserError("Another process cannot save its blocks; see its message above.")
            log.warning("Blocks continue unsaved. %s", failed or "Another process cannot save its blocks.")
            return
        for trainer in self.trainers.values():
            trainer.save()
        self.group.wait()

    def _finish(self, block_id: str) -> BlockResult:
        trainer = self.trainers.pop(block_id)
        try:
            result = trainer.finish()
            if not any(len(shared.rays) for shared in self.targets.pop(block_id).borders.values()):
                log.warning(
                    "Block %s had nothing to compare at the end: its images show no place that a neighbour reaches.",
                    block_id,
                )
        finally:
            trainer.metrics.close()
        self.learned[block_id] = self.read_learned(block_id)
        return result


def _saved_round(trainer: BlockNeRFTrainer, name: str) -> int:
    meta = trainer.checkpoint.read_meta(name)
    return 0 if meta is None else int(meta.state.get(f"{NEIGHBOURS}.number", -1))
