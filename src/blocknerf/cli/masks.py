"""`blocknerf masks`: hides what moves."""

from pathlib import Path
from typing import Annotated

import tyro
from rich import box
from rich.table import Table

from blocknerf.core.errors import UserError
from blocknerf.core.logging import console, log

CLASSES = "person,rider,car,truck,bus,train,motorcycle,bicycle"
_MOST_HIDDEN = 12


def masks(
    scene: tyro.conf.Positional[Path],
    model: Annotated[str | None, tyro.conf.arg(metavar="PATH|NAME")] = None,
    classes: str = CLASSES,
    dilate: float = 0.01,
    overwrite: bool = False,
) -> None:
    """Makes masks of people and vehicles, so that training, figures and codes leave them out.

    A segmentation network that learned from Cityscapes looks at every image; what it finds is written to
    masks/transient/ beside the images (0: leave out, 255: keep), where training finds it. Masks made by hand stay as
    they are and hide as well. Stop it and run it again: it goes on. Look at masks/overview.png when it is done.
    Needs transformers: pip install 'blocknerf[masks]'.

    Example: blocknerf masks my_street --model models/segformer-b0

    Args:
        scene: Folder of the scene: a COLMAP model or transforms.json with its images.
        model: A SegFormer that learned Cityscapes: a folder, or a name on the Hugging Face hub; none:
            nvidia/segformer-b0-finetuned-cityscapes-1024-1024. Those of b1 to b5 find more and take longer.
        classes: What to hide, as the network names it, separated by commas.
        dilate: What is found grows by this share of the picture's longer side, because outlines are never exact.
        overwrite: Make masks anew that an earlier run made; those made by hand stay.
    """
    from blocknerf.runtime.cores import available_cores

    names = tuple(name.strip() for name in classes.split(",") if name.strip())
    if not names:
        raise UserError(f"--classes {classes!r} names nothing; write classes separated by commas, as in person,car.")
    if not 0 <= dilate <= 0.5:
        raise UserError(f"--dilate {dilate:g} must be from 0 to 0.5: it is a share of the picture's longer side.")
    if not scene.is_dir():
        raise UserError(f"There is no folder {scene}. Give the folder of a scene.")

    import torch

    from blocknerf.scene.segformer import CITYSCAPES_MODEL, SegFormer
    from blocknerf.scene.transients import OVERVIEW_NAME, make_masks

    torch.set_num_threads(available_cores())
    name = CITYSCAPES_MODEL if model is None else model
    shares = make_masks(scene, SegFormer(name, names), {"model": name, "classes": list(names)}, dilate, overwrite)
    console.print(shares_table(shares))
    log.info("Look at %s: what is tinted is hidden.", scene / OVERVIEW_NAME)


def shares_table(shares: dict[str, float]) -> Table:
    """The images of which most is hidden, and the mean of all."""
    table = Table(title="Hidden", title_justify="left", box=box.SIMPLE)
    table.add_column("image")
    table.add_column("share", justify="right")
    for name in sorted(shares, key=lambda name: -shares[name])[:_MOST_HIDDEN]:
        table.add_row(name, f"{shares[name]:.1%}")
    table.add_section()
    table.add_row(f"mean of {len(shares)} images", f"{sum(shares.values()) / max(1, len(shares)):.1%}", style="bold")
    return table
