"""Trains every block of a scene: the same as `blocknerf train`, under the flags of the documents' script.

python train_block_nerf.py --config configs/street.yaml --data_root SCENE --output_dir OUT [--resume] [key=value ...]
"""

import argparse
import os
from pathlib import Path

from blocknerf.cli.main import as_program


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train every block of a scene.", allow_abbrev=False)
    parser.add_argument("--config", type=Path, required=True, help="YAML or JSON configuration")
    parser.add_argument("--data_root", "--data-root", type=Path, required=True, help="folder of the scene")
    parser.add_argument("--output_dir", "--output-dir", type=Path, default=Path("outputs"), help="output folder")
    parser.add_argument(
        "--resume", nargs="?", const=True, metavar="FILE", help="resume the output folder, or from the state FILE"
    )
    parser.add_argument("--distributed", action="store_true", help="run as one of the processes that torchrun started")
    parser.add_argument("--local_rank", "--local-rank", type=int, help="the LOCAL_RANK of torchrun")
    parser.add_argument("--debug", action="store_true", help="inspect, then train at tiny sizes")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as in training.max_minutes=5")
    parsed = parser.parse_args(arguments)
    if isinstance(parsed.resume, str) and "=" in parsed.resume and not Path(parsed.resume).exists():
        parsed.overrides.insert(0, parsed.resume)  # --resume stood before key=value, not before a file
        parsed.resume = True
    return parsed


def train_as_asked(arguments: argparse.Namespace) -> None:
    from blocknerf.cli.train import train

    if arguments.local_rank is not None:
        os.environ.setdefault("LOCAL_RANK", str(arguments.local_rank))
    train(
        data_root=arguments.data_root,
        output_dir=arguments.output_dir,
        config=arguments.config,
        overrides=tuple(arguments.overrides),
        resume=arguments.resume is not None,
        resume_from=None if arguments.resume in (None, True) else Path(arguments.resume),
        debug=arguments.debug,
        distributed=arguments.distributed,
    )


if __name__ == "__main__":
    parsed = parse_arguments()
    as_program(lambda: train_as_asked(parsed))
