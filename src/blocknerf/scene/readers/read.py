"""`read_scene`: whatever lies in the folder, a `Scene` comes out."""

from pathlib import Path

from blocknerf.core.config import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.scene.readers.candidates import make_scene
from blocknerf.scene.readers.colmap import read_colmap
from blocknerf.scene.readers.colmap_files import find_model
from blocknerf.scene.readers.sidecar import read_sidecar
from blocknerf.scene.readers.transforms import read_transforms
from blocknerf.scene.scene import Scene


def read_scene(data_root: Path, config: DatasetConfig) -> Scene:
    """Reads the capture in `data_root`: a COLMAP model or transforms.json, with our sidecar file where there is one.

    Images that cannot be used are listed in `Scene.skipped` and logged. Raises UserError when there is no capture, a
    file of it is damaged, two images share a name, fewer than two images are usable, or depth is wanted and none has
    any.
    """
    data_root = Path(data_root)
    if not data_root.is_dir():
        raise UserError(f"There is no folder {data_root}. Give the folder of a capture as the data root.")
    model_folder = find_model(data_root) if config.type in ("auto", "colmap") else None
    transforms = data_root / "transforms.json"
    sidecar = read_sidecar(data_root)
    if model_folder is not None:
        capture = read_colmap(data_root, model_folder)
    elif config.type in ("auto", "nerfstudio") and transforms.is_file():
        capture = read_transforms(data_root, transforms)
    else:
        raise UserError(f"{data_root} holds {_WANTED[config.type]}. Point --data-root at the folder of a capture.")
    return make_scene(data_root, capture, sidecar, config.use_masks, config.use_depth)


_WANTED = {
    "auto": "neither a COLMAP model (sparse/0/cameras.bin) nor a transforms.json",
    "colmap": "no COLMAP model (looked for cameras.bin or .txt in sparse/0, sparse, colmap/sparse/0 and there itself)",
    "nerfstudio": "no transforms.json",
}
