"""What `export mesh` and `export points` begin with: the surfaces of a trained city from its training cameras."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blocknerf.cli.place import Place
from blocknerf.core import disk
from blocknerf.core.errors import UserError
from blocknerf.core.lock import locked_file
from blocknerf.core.system_errors import reason, remedy


@contextmanager
def city_maps(
    out: Path, beside: Path, longest_px: int, most_views: int, data_root: Place | None, state: str, device: str
) -> Iterator[tuple]:
    """(Maps, InnerRegions) of the city in `out`; their files lie beside `beside` while the context lasts."""
    from blocknerf.blocks.output import load_output, open_scene
    from blocknerf.city.city import City
    from blocknerf.export.maps import InnerRegions, render_maps
    from blocknerf.runtime.cores import available_cores
    from blocknerf.runtime.threads import use_threads

    if longest_px < 8 or most_views < 1:
        raise UserError(f"--longest-side {longest_px} must be at least 8 pixels, and --views {most_views} at least 1.")
    config, plan = load_output(out)
    city = City.open(out, state=state, device=device)
    scene = open_scene(out, config.dataset, data_root)
    use_threads(available_cores(), city.worker)
    regions = InnerRegions.of(plan)
    with locked_file(beside, f"{beside} is being written"):
        folder = disk.temporary(beside.with_name(f"{beside.name}.maps"))
        try:
            try:
                disk.make_folder(folder)
                maps = render_maps(city, plan, scene, regions, folder, longest_px, most_views)
            except OSError as error:
                raise UserError(
                    f"Cannot write {beside}, nor the depth maps beside it that it is made from: {reason(error)}; "
                    f"{remedy(error)}, or ask for less with --views or --longest-side."
                ) from error
            yield maps, regions
        finally:
            disk.remove_tree(folder)
