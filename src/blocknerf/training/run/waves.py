"""In which order blocks are trained where each is to agree with neighbours that were trained before it.

No two neighbours are of the same wave, so that the blocks of a wave need nothing of each other: any worker trains any
of them, in any order, to the same bytes. Every border is compared once, by the block of the later wave.
"""

from collections.abc import Callable, Iterable

from blocknerf.blocks.plan import BlockSpec, Plan
from blocknerf.core.config.training import TrainingConfig
from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.training.block.trainer import BlockResult
from blocknerf.training.run.run import Run


def wave_of_each(plan: Plan) -> dict[str, int]:
    """By block id, from 0: blocks in the order of the plan, each in the first wave that has none of its neighbours."""
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
    """`blocks` in the waves that they are trained in, one after the other: a single one where none are compared."""
    wave = wave_of_each(plan) if config.consistency_loss_weight > 0 else {}
    waves: dict[int, list[BlockSpec]] = {}
    for block in blocks:
        waves.setdefault(wave.get(block.id, 0), []).append(block)
    return [waves[number] for number in sorted(waves)]


def train_in_waves(
    run: Run, blocks: Iterable[BlockSpec], train: Callable[[list[BlockSpec]], list[BlockResult]]
) -> list[BlockResult]:
    """Trains blocks, where they are compared, after the neighbours that they learn to agree with.

    Raises UserError when blocks of any wave fail, after the others.
    """
    waves = in_waves(run.plan, blocks, run.config.training)
    if len(waves) > 1:
        log.info(
            "Blocks are trained in %d waves: each learns to agree with neighbours of the waves before "
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
