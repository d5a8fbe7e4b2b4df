"""COLMAP's steps on one database: features, matches, models. Each can be interrupted and resumes.

Long calls run in a second thread and are stopped by a token on Ctrl-C. COLMAP's messages go to a file.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeVar

from blocknerf.core import disk
from blocknerf.core.errors import UserError
from blocknerf.core.files import write_bytes
from blocknerf.core.logging import log
from blocknerf.core.progress import bar
from blocknerf.prepare.pairs import PairPlan
from blocknerf.prepare.shots import CapturedImage
from blocknerf.scene.colmap_module import pycolmap

T = TypeVar("T")
DATABASE = "database.db"
_PAIRS_AT_ONCE = 200
_IMAGES_AT_ONCE = 4
_LISTEN_S = 0.2


@dataclass(frozen=True, slots=True)
class ColmapWorkspace:
    """COLMAP's workspace: its pictures, a folder for its files, and its number of cores.

    `plain` maps names in the scene to the plain names of pictures for COLMAP. All results of this module have the
    scene's names.
    """

    images: Path
    folder: Path
    threads: int
    plain: Mapping[str, str]

    @property
    def database(self) -> Path:
        return self.folder / DATABASE

    def named(self) -> dict[str, str]:
        """Names in the scene, by plain name."""
        return {plain: name for name, plain in self.plain.items()}


def log_to(path: Path) -> None:
    """From now on COLMAP's messages go to files that begin with `path` instead of the terminal."""
    disk.make_folder(path.parent)
    logging = pycolmap.logging
    logging.logtostderr = logging.alsologtostderr = False
    logging.stderrthreshold = logging.Level.FATAL.value
    for level in (logging.Level.WARNING, logging.Level.ERROR):
        logging.set_log_destination(level, "")
    logging.set_log_destination(logging.Level.INFO, f"{path}.")


def interruptible(call: Callable[[Any], T]) -> T:
    """Runs `call(token)` so that Ctrl-C ends it as soon as COLMAP checks the token.

    It waits for an event, not for the thread: Python 3.11 considers a thread ended when Ctrl-C interrupts `join`.
    """
    token, ended, outcome = pycolmap.CancellationToken(), Event(), {}

    def work() -> None:
        try:
            outcome["result"] = call(token)
        except Exception as error:  # noqa: BLE001 (handed on below)
            outcome["error"] = error
        finally:
            ended.set()

    Thread(target=work, daemon=True).start()
    try:
        while not ended.wait(_LISTEN_S):
            pass
    except KeyboardInterrupt:
        log.info("Stopping as soon as COLMAP can.")
        token.cancel()
        ended.wait()
        raise
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]


# --- features -------------------------------------------------------------------------------------------------------


def find_features(
    shop: ColmapWorkspace,
    shots: Sequence[CapturedImage],
    masks: set[str],
    mask_folder: Path,
    long_side: int,
    camera_model: str,
) -> dict[str, int]:
    """Features of every picture, by name; those already in the database are kept.

    Pictures are reduced to at most `long_side` pixels. For pictures in `masks`, features are found only where
    `mask_folder`/<plain name>.png is not black. A picture that COLMAP cannot read has none.
    """
    _begin_database(shop, shots, camera_model)
    options = pycolmap.FeatureExtractionOptions()
    options.num_threads, options.max_image_size, options.use_gpu = shop.threads, long_side, False
    with bar("Features", len(shots)) as progress:
        for masked in (False, True):
            reader = pycolmap.ImageReaderOptions()
            if masked:
                reader.mask_path = str(mask_folder)
            names = [shop.plain[shot.name] for shot in shots if (shot.name in masks) == masked]
            for chunk in _chunks(names, _IMAGES_AT_ONCE * shop.threads):
                interruptible(
                    lambda token, chunk=chunk, reader=reader: pycolmap.extract_features(
                        shop.database,
                        shop.images,
                        image_names=chunk,
                        reader_options=reader,
                        extraction_options=options,
                        cancellation_token=token,
                    )
                )
                progress.advance(len(chunk))
    with pycolmap.Database.open(shop.database) as database:
        images, named = database.read_all_images(), shop.named()
        return {named[image.name]: database.num_keypoints_for_image(image.image_id) for image in images}


def _begin_database(shop: ColmapWorkspace, shots: Sequence[CapturedImage], camera_model: str) -> None:
    """Cameras and images, without features; one camera for each key of `CapturedImage.camera`. Whole or absent."""
    if shop.database.is_file():
        return
    groups: dict[str, list[CapturedImage]] = {}
    for shot in shots:
        groups.setdefault(shot.camera, []).append(shot)
    unfinished = shop.folder / f"unfinished_{DATABASE}"
    disk.unlink(unfinished, missing_ok=True)
    disk.by_library(unfinished, lambda: pycolmap.Database.open(unfinished).close())
    with bar("Cameras", len(shots)) as progress:
        for group in groups.values():
            pycolmap.import_images(
                unfinished,
                shop.images,
                camera_mode=pycolmap.CameraMode.SINGLE,
                image_names=[shop.plain[shot.name] for shot in group],
                options=_reader_options(group[0], camera_model),
            )
            progress.advance(len(group))
    disk.replace(unfinished, shop.database)


def _reader_options(shot: CapturedImage, camera_model: str) -> Any:
    """With the focal length of EXIF if there is one; otherwise COLMAP uses the sensor of a known camera, or guesses."""
    options = pycolmap.ImageReaderOptions()
    options.camera_model = camera_model
    if shot.focal_px is not None:
        camera = pycolmap.Camera.create_from_model_name(1, camera_model, shot.focal_px, shot.width, shot.height)
        options.camera_params = ",".join(f"{value:.9g}" for value in camera.params)
    return options


# --- matches --------------------------------------------------------------------------------------------------------


def find_matches(shop: ColmapWorkspace, plan: PairPlan, vocabulary: Path | None) -> None:
    """Compares the pairs and keeps those whose matches one geometry explains.

    Pairs already in the database are skipped. `vocabulary`, if given, finds more pairs.
    """
    options = pycolmap.FeatureMatchingOptions()
    options.num_threads, options.use_gpu = shop.threads, False
    geometry = pycolmap.TwoViewGeometryOptions()
    geometry.ransac.random_seed = 0
    listed = pycolmap.ImportedPairingOptions()
    listed.match_list_path = str(shop.folder / "pairs.txt")
    with bar("Matches", len(plan.pairs)) as progress:
        for chunk in _chunks(plan.pairs, _PAIRS_AT_ONCE * shop.threads):
            lines = (f"{shop.plain[one]} {shop.plain[other]}\n" for one, other in chunk)
            write_bytes(shop.folder / "pairs.txt", "".join(lines).encode())
            interruptible(
                lambda token: pycolmap.match_image_pairs(
                    shop.database, options, listed, geometry, cancellation_token=token
                )
            )
            progress.advance(len(chunk))
    if vocabulary is not None:
        _match_by_vocabulary(shop, options, geometry, vocabulary)


def forget_matches(shop: ColmapWorkspace) -> None:
    """Removes all pairs from the database; cameras and features stay."""
    with pycolmap.Database.open(shop.database) as database:
        database.clear_matches()
        database.clear_two_view_geometries()


def partners(shop: ColmapWorkspace) -> dict[str, int]:
    """With how many others each picture matches, verified by geometry."""
    with pycolmap.Database.open(shop.database) as database:
        named = shop.named()
        names = {image.image_id: named[image.name] for image in database.read_all_images()}
        pairs, inliers = database.read_two_view_geometry_num_inliers()
    counts = dict.fromkeys(names.values(), 0)
    for pair, matches in zip(pairs, inliers, strict=True):
        if matches > 0:
            for image in pycolmap.pair_id_to_image_pair(pair):
                counts[names[image]] += 1
    return counts


def _match_by_vocabulary(shop: ColmapWorkspace, options: Any, geometry: Any, vocabulary: Path) -> None:
    tree = pycolmap.VocabTreePairingOptions()
    tree.vocab_tree_path, tree.num_threads = str(vocabulary), shop.threads
    log.info("Looking for pictures that show the same, by %s.", vocabulary)
    interruptible(
        lambda token: pycolmap.match_vocabtree(shop.database, options, tree, geometry, cancellation_token=token)
    )


def check_vocabulary(vocabulary: Path) -> None:
    """Raises UserError for a file that is not a vocabulary: COLMAP would end the whole process on it later."""
    try:
        pycolmap.VisualIndex.read(vocabulary)
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"COLMAP {pycolmap.COLMAP_version} cannot use the vocabulary {vocabulary}: it wants a tree of SIFT words "
            "in its newer (faiss) format. Take another file, or another --matching."
        ) from error


# --- models ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attempt:
    """One set of mapping options. `narrow`: for cameras that go straight ahead and see little parallax."""

    name: str
    narrow: bool = False
    holds_focal: bool = False


ATTEMPTS = (
    Attempt("as usual"),
    Attempt("with little parallax, the focal length fixed to that of EXIF", narrow=True, holds_focal=True),
    Attempt("with little parallax", narrow=True),
)
"""Tried in this order until one places nearly all pictures. Motion straight ahead does not determine the focal length:
bundle adjustment trades it against the length of the path. So it is fixed if EXIF has one."""

_NEARLY_ALL = 0.8


@dataclass(frozen=True, slots=True)
class Model:
    """A component: pictures placed relative to each other. `folder` holds it as COLMAP's files."""

    folder: Path
    names: tuple[str, ...]
    points: int


def map_cameras(shop: ColmapWorkspace, count: int) -> tuple[Attempt, list[Model]]:
    """Places cameras; the components of the best attempt, largest first, perhaps none, of `count` pictures."""
    best: tuple[Attempt, list[Model]] = (ATTEMPTS[0], [])
    for number, attempt in enumerate(ATTEMPTS):
        if attempt.holds_focal and not _knows_focal(shop):
            continue
        models = _map_once(shop, attempt, shop.folder / f"models_{number}", count)
        if _placed(models) > _placed(best[1]):
            best = attempt, models
        if _placed(models) >= _NEARLY_ALL * count:
            break
        log.info("Mapping %s placed %d of %d pictures.", attempt.name, _placed(models), count)
    return best


def _placed(models: Sequence[Model]) -> int:
    return len(models[0].names) if models else 0


def _knows_focal(shop: ColmapWorkspace) -> bool:
    with pycolmap.Database.open(shop.database) as database:
        return all(camera.has_prior_focal_length for camera in database.read_all_cameras())


def _map_once(shop: ColmapWorkspace, attempt: Attempt, folder: Path, count: int) -> list[Model]:
    disk.remove_tree(folder)
    disk.make_folder(folder)
    with bar(f"Cameras are placed {attempt.name}", count) as progress:
        found = interruptible(
            lambda token: pycolmap.incremental_mapping(
                shop.database,
                shop.images,
                folder,
                mapping_options(attempt, shop.threads),
                initial_image_pair_callback=lambda: progress.advance(2),
                next_image_callback=lambda: progress.advance(1),
                cancellation_token=token,
            )
        )
    models = [_named_model(shop, folder / str(number), model) for number, model in found.items()]
    return sorted(models, key=lambda model: (-len(model.names), -model.points))


def _named_model(shop: ColmapWorkspace, folder: Path, model: Any) -> Model:
    """Writes the model into `folder` again, with the pictures' names in the scene."""
    named = shop.named()
    for image in model.images.values():
        image.name = named[image.name]
    disk.by_library(folder, lambda: model.write_binary(str(folder)))
    names = tuple(sorted(model.image(number).name for number in model.reg_image_ids()))
    return Model(folder, names, model.num_points3D())


def mapping_options(attempt: Attempt, threads: int) -> Any:
    """COLMAP's defaults except for the attempt's changes; components of three pictures or more are reported."""
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads, options.random_seed, options.min_model_size = threads, 0, 3
    if attempt.narrow:
        options.mapper.init_min_tri_angle = 4.0
        options.mapper.init_max_forward_motion = 1.0
        options.mapper.filter_min_tri_angle = options.triangulation.min_angle = 0.7
    if attempt.holds_focal:
        options.ba_refine_focal_length = False
        options.mapper.abs_pose_refine_focal_length = False
    return options


def _chunks(items: Iterable[T], size: int) -> Iterable[list[T]]:
    """Lists of up to `size` items, in order."""
    iterator = iter(items)
    return iter(lambda: list(itertools.islice(iterator, size)), [])
