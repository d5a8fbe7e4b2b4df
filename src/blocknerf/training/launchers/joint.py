"""Trains blocks at the same time that learn from each other, on the processes of a group and their devices."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from blocknerf.blocks.plan import BlockSpec
from blocknerf.core.lock import Held
from blocknerf.core.logging import log
from blocknerf.runtime.cores import available_cores
from blocknerf.runtime.process_group import ALONE, ProcessGroup
from blocknerf.runtime.signals import StopSignal
from blocknerf.runtime.threads import use_threads
from blocknerf.training.block.neighbour_targets import NeighbourTargets
from blocknerf.training.block.trainer import BlockResult
from blocknerf.training.block.warmup import warmup
from blocknerf.training.joint.borders import borders_of
from blocknerf.training.joint.exchange import ConsistencyExchange
from blocknerf.training.joint.rounds import JointTraining
from blocknerf.training.launchers.launcher import Report
from blocknerf.training.launchers.sequential import train_in_order
from blocknerf.training.run.one_block import log_result, make_trainer, read_model
from blocknerf.training.run.order import minutes_of, spread
from blocknerf.training.run.run import Run, open_store_in_turn
from blocknerf.training.run.todo import is_learned


class JointLauncher:
    """A `Launcher`: each process trains its share of the blocks. Neighbours that are already trained take part."""

    def __init__(self, group: ProcessGroup = ALONE):
        self.group = group

    def train(self, run: Run, blocks: list[BlockSpec], report: Report, locks: Sequence[Held] = ()) -> list[BlockResult]:
        store, group = open_store_in_turn(run, self.group), self.group
        use_threads(available_cores(), run.config.block_nerf.worker)
        minutes = minutes_of(run, blocks, cores=1)  # the same on every machine
        hosts = spread(minutes, group.size)
        local = [block for block in blocks if hosts[block.id] == group.rank]
        if run.config.training.consistency_loss_weight == 0:
            log.warning("With training.consistency_loss_weight=0, blocks learn nothing from each other.")
            return train_in_order(run, local, store, report)
        near = {neighbour for block in blocks for neighbour in block.neighbours} - hosts.keys()
        learned = [block for block in run.plan.blocks if block.id in near and is_learned(run, block.id)]
        borders = borders_of(blocks, learned, store)
        log.info("%d blocks learn side by side and compare %d borders.", len(blocks), len(borders))
        hosts |= {block.id: 0 for block in learned}
        exchange = ConsistencyExchange(run.config, borders, hosts, store, group)
        device_of = spread({block.id: minutes[block.id] for block in local}, len(run.devices))
        trainers = []
        for block in local:
            targets = NeighbourTargets(exchange.every)
            on_device = replace(run, devices=(run.devices[device_of[block.id]],))
            trainer = make_trainer(on_device, block, store, partial(report, block.id), neighbours=targets)
            trainers.append((trainer, targets))
        for trainer, _ in trainers[:1]:
            warmup(store, trainer.image_ids, run.config)
        fixed = [block.id for block in learned] if group.is_first else []
        with StopSignal() as stop:
            together = JointTraining(run.config.training, trainers, exchange, fixed, partial(read_model, run))
            results = together.train(lambda: stop.requested)
        for result in results:
            log_result(result)
        return results
