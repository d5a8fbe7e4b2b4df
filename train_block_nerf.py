"""Trains every block of a scene: the same as `blocknerf train`, under the flags of the documents' script.

python train_block_nerf.py --config configs/street.yaml --data_root SCENE --output_dir OUT [--resume] [key=value ...]
"""

import argparse
import os
from pathlib import Path

from blocknerf.cli.main import run
from blocknerf.cli.train import train
from blocknerf.core.errors import UserError


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train every block of a scene.", allow_abbrev=False)
    parser.add_argument("--config", type=Path, required=True, help="YAML or JSON configuration")
    parser.add_argument("--data_root", "--data-root", type=Path, required=True, help="folder of the scene")
    parser.add_argument("--output_dir", "--output-dir", type=Path, default=Path("outputs"), help="output folder")
    parser.add_argument(
        "--resume", nargs="?", const=True, metavar="FILE", help="go on with the output folder, or with that of FILE"
    )
    parser.add_argument("--distributed", action="store_true", help="as one of the processes that torchrun started")
    parser.add_argument("--local_rank", "--local-rank", type=int, help="what torchrun says as LOCAL_RANK")
    parser.add_argument("--debug", action="store_true", help="inspect, then train at tiny sizes")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as in training.max_minutes=5")
    told = parser.parse_args(arguments)
    if isinstance(told.resume, str) and "=" in told.resume and not Path(told.resume).exists():
        told.overrides.insert(0, told.resume)  # --resume stood before key=value, not before a file
        told.resume = True
    return told


def train_as_told(told: argparse.Namespace) -> None:
    if told.local_rank is not None:
        os.environ.setdefault("LOCAL_RANK", str(told.local_rank))
    if told.resume not in (None, True):
        check_checkpoint(Path(told.resume), told.output_dir)
    train(
        data_root=told.data_root,
        output_dir=told.output_dir,
        config=told.config,
        overrides=tuple(told.overrides),
        resume=told.resume is not None,
        debug=told.debug,
        distributed=told.distributed,
    )


def check_checkpoint(checkpoint: Path, output_dir: Path) -> None:
    """A run goes on where its output folder stands; raises UserError for a checkpoint that is not part of it."""
    if not checkpoint.exists():
        raise UserError(f"There is no checkpoint at {checkpoint}.")
    if not checkpoint.resolve().is_relative_to(output_dir.resolve()):
        raise UserError(
            f"--resume {checkpoint} does not belong to the output folder {output_dir}. "
            "Give --output_dir the folder that holds it; every block there goes on from its latest state."
        )


if __name__ == "__main__":
    parsed = parse_arguments()
    run(lambda: train_as_told(parsed))
