"""Order of training in which each block learns to agree with neighbours trained before it.

No two neighbours are in the same wave, so the blocks of a wave do not depend on each other: any worker trains any of
them, in any order, to the same bytes. Every border is compared once, by the block of the later wave.
"""

from collections.abc import Callable, Iterable

from blocknerf.blocks.plan import BlockSpec, Plan
from blocknerf.core.config.training import TrainingConfig
from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.training.block.trainer import BlockResult
from blocknerf.training.run.run import Run


def wave_of_each(plan: Plan) -> dict[str, int]:
    """Wave number by block id, from 0. In the plan's order, each block gets the first wave without a neighbour."""
    links = {block_id: set(neighbours) for block_id, neighbours in plan.links.items()}
    for block_id, neighbours in plan.links.items():
        for neighbour in neighbours:
            links[neighbour].add(block_id)
    waves: dict[str, int] = {}
    for block_id, neighbours in links.items():
        taken = {waves[neighbour] for neighbour in neighbours if neighbour in waves}
        waves[block_id] = next(wave for wave in range(len(links)) if wave not in taken)
    return waves


def in_waves(plan: Plan, blocks: Iterable[BlockSpec], config: TrainingConfig) -> list[list[BlockSpec]]:
    """`blocks` by wave, in the order of training: a single wave if blocks are not compared."""
    wave = wave_of_each(plan) if config.consistency_loss_weight > 0 else {}
    waves: dict[int, list[BlockSpec]] = {}
    for block in blocks:
        waves.setdefault(wave.get(block.id, 0), []).append(block)
    return [waves[number] for number in sorted(waves)]


def train_in_waves(
    run: Run, blocks: Iterable[BlockSpec], train: Callable[[list[BlockSpec]], list[BlockResult]]
) -> list[BlockResult]:
    """Trains blocks in waves: if they are compared, each after the neighbours with which it learns to agree.

    Raises UserError if blocks of any wave fail, after all waves.
    """
    waves = in_waves(run.plan, blocks, run.config.training)
    if len(waves) > 1:
        log.info(
            "Blocks are trained in %d waves: each learns to agree with neighbours of earlier waves "
            "(training.consistency_loss_weight).",
            len(waves),
        )
    results, failures = [], []
    for wave in waves:
        try:
            results += train(wave)
        except UserError as error:
            if len(waves) == 1:
                raise
            failures.append(str(error))
    if failures:
        raise UserError(" ".join(failures))
    return results
