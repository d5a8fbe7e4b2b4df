"""Where images saw sparse points: the places and distances of geometry, and whether photographs contradict them."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blocknerf.scene import observed_points as module
from blocknerf.scene.colmap_module import pycolmap
from blocknerf.scene.observed_points import LEAST_ERROR_PX, REPROJECTION_ERROR_PX, ObservedPoints, observed_points
from blocknerf.scene.scene import Scene
from blocknerf.scene.store import ImageStore
from tests.support.made_scenes import look_at, scene_of
from tests.support.seen_points import LENSES, opened, pattern, write_seen_points

CONTRADICTED = "do not fit the photographs"


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> tuple[Scene, ImageStore]:
    return opened(write_seen_points(tmp_path_factory.mktemp("room")))


def sights_of(scene: Scene, store: ImageStore) -> ObservedPoints:
    points = observed_points(scene, store, store.image_ids)
    assert points is not None
    return points


def with_points(scene: Scene, points_world: np.ndarray) -> Scene:
    return replace(scene, points_world=points_world, points_error_px=None)


def places_of(scene: Scene, store: ImageStore, points: ObservedPoints, image_ids: tuple[str, ...]) -> np.ndarray:
    """Along each sight's ray to the known distance, by the store's rays alone; [sights, 3]."""
    places = []
    for slot, xy_px, distance_m in zip(points.slots, points.xy_px, points.distance_m, strict=True):
        rays, (_, width) = store.rays(image_ids[slot]), store.size(image_ids[slot])
        column, row = xy_px.astype(int)
        ray = row * width + column
        places.append((rays.origins[ray] + float(distance_m) * rays.directions[ray]).numpy())
    return np.array(places)


# --- geometry -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lens", LENSES)
def test_rays_of_the_pixels_end_in_the_points_at_the_distance(tmp_path: Path, lens: str):
    """Within the half pixel by which a point may lie beside the pixel's centre."""
    scene, store = opened(write_seen_points(tmp_path, LENSES[lens]))
    points = sights_of(scene, store)
    every = np.concatenate([image.point_rows for image in scene.images])
    lonely = np.bincount(every, minlength=len(scene.points_world)) < 2
    true = np.concatenate([scene.points_world[image.point_rows] for image in scene.images])[~lonely[every]]
    away_m = np.linalg.norm(places_of(scene, store, points, store.image_ids) - true, axis=1)
    largest_pixel_rad = {"pinhole": 1 / 60, "fisheye": 1 / 45, "equirectangular": 2 * np.pi / 192}[lens]
    assert (away_m <= 0.71 * largest_pixel_rad * points.distance_m * 1.05).all()
    assert len(points) > 600


def test_pixels_show_the_colour_of_their_points(room):
    scene, store = room
    points = sights_of(scene, store)
    true = pattern(places_of(scene, store, points, store.image_ids))

    def differences(shift: int) -> np.ndarray:
        seen = []
        for slot, (x, y) in zip(points.slots, points.xy_px.astype(int), strict=True):
            seen.append(store.rgb(store.image_ids[slot])[y, min(x + shift, 95)])
        return np.abs(np.array(seen) / 255 - true)

    assert np.median(differences(0)) < 0.02
    assert np.quantile(differences(0), 0.95) < 0.08  # walls seen at a grazing angle differ more
    assert np.median(differences(3)) > 0.08


def test_images_may_come_in_any_order_and_some_alone(room):
    """Slots are positions in the list, gaps in it included."""
    scene, store = room
    names = ("gone", *store.image_ids[12:3:-1], "gone too", *store.image_ids[:3])
    points = observed_points(scene, store, names)
    assert points is not None
    assert set(points.slots.tolist()) == set(range(len(names))) - {0, 10}
    assert (np.diff(points.slots) >= 0).all()
    for slot in np.unique(points.slots):
        record = store.records[names[slot]]
        distances = np.linalg.norm(scene.points_world[record.point_rows] - record.world_from_cam[:, 3], axis=1)
        assert np.isin(points.distance_m[points.slots == slot], distances.astype(np.float32)).all()


def test_points_that_one_image_saw_are_left_out(room):
    scene, store = room
    whole = sights_of(scene, store)
    first, *others = scene.images
    first = replace(first, point_rows=np.append(first.point_rows, len(scene.points_world)))
    lonely = with_points(scene, np.append(scene.points_world, [[-4.0, 0, 0]], axis=0))
    lonely = replace(lonely, images=(first, *others))
    store = ImageStore.open(lonely, 1, store.folder, progress=False)
    assert len(sights_of(lonely, store)) == len(whole)


def test_images_with_a_table_of_rays_are_left_out(room):
    scene, store = room
    first = store.image_ids[0]
    store = ImageStore.open(scene, 1, store.folder, progress=False)
    store.records[first] = replace(store.records[first], rays_path=Path("rays.npy"))
    points = sights_of(scene, store)
    assert set(points.slots.tolist()) == set(range(1, 16))
    store.records = {name: replace(image, rays_path=Path("r.npy")) for name, image in store.records.items()}
    assert observed_points(scene, store, store.image_ids) is None


# --- deviation ------------------------------------------------------------------------------------------------------


def seen_by(centers: np.ndarray, point: np.ndarray, error_px: float | None = None) -> np.ndarray:
    """Deviations of the sights of one point, by image; whether colours agree is not asked."""
    poses = [look_at(center, point) for center in centers]
    scene = scene_of(poses, [point])
    scene = replace(scene, points_error_px=None if error_px is None else np.array([error_px]))
    return module._sights(scene, dict(enumerate(scene.images)), 1.0).deviation_m


def intersection_errors_m(centers: np.ndarray, point: np.ndarray, error_rad: float, trials: int = 1000) -> np.ndarray:
    """Of the least-squares intersection of perturbed rays, along the mean ray."""
    rng, away = np.random.default_rng(0), point - centers
    distances = np.linalg.norm(away, axis=1, keepdims=True)
    errors = []
    for _ in range(trials):
        rays = away / distances + error_rad * rng.normal(size=away.shape)
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        across = (np.eye(3) - rays[:, :, None] * rays[:, None]) / distances[:, :, None] ** 2
        errors.append(np.linalg.solve(across.sum(0), (across @ centers[:, :, None]).sum(0))[:, 0] - point)
    mean = away.mean(0) / np.linalg.norm(away.mean(0))
    return np.array(errors) @ mean


@pytest.mark.parametrize("count", [2, 3, 8])
@pytest.mark.parametrize("baseline_m", [0.3, 1.0, 4.0])
def test_deviation_is_that_of_an_intersection_of_rays_that_are_off_by_a_pixel(count: int, baseline_m: float):
    place = np.linspace(-0.5, 0.5, count) * baseline_m
    centers, point = np.stack([place, 0 * place, 0.1 * place**2], -1), np.array([0.2, 6.0, 0.3])
    error_rad = REPROJECTION_ERROR_PX / 40  # its focal length; small errors, where they count in proportion
    simulated_m = 50 * float(np.std(intersection_errors_m(centers, point, error_rad / 50)))
    assert seen_by(centers, point) == pytest.approx(np.full(count, simulated_m), rel=0.25)


def test_deviation_falls_with_the_number_of_images_and_grows_as_baselines_shrink_and_with_the_error():
    turns = 2 * np.pi * np.arange(16) / 16
    centers, point = np.stack([np.cos(turns), 0 * turns, np.sin(turns)], -1), np.array([0.0, 8.0, 0.0])
    by_number = [seen_by(centers[:: 16 // count], point)[0] for count in (2, 4, 8, 16)]
    assert np.allclose(np.divide(by_number[:-1], by_number[1:]), math.sqrt(2), rtol=0.02)
    near, far = seen_by(0.1 * centers, point)[0], seen_by(centers, point)[0]
    assert near == pytest.approx(10 * far, rel=0.02)
    assert seen_by(centers, point, 3.0)[0] == pytest.approx(3 * math.sqrt(32 / 29) * far, rel=1e-5)
    assert seen_by(centers, point, 0.0)[0] == pytest.approx(far)
    assert seen_by(centers, point, 1e-6)[0] == pytest.approx(LEAST_ERROR_PX * far)


@pytest.mark.parametrize("count", [2, 3, 8])
def test_residuals_of_a_fitted_point_give_the_error_of_its_rays(count: int):
    """Residuals are smaller; a file has their mean length, which is sqrt(pi / 2) of one coordinate's deviation."""
    rng, truth = np.random.default_rng(1), np.array([0.0, 6.0, 0.0])
    centers = np.stack([np.linspace(-1, 1, count), np.zeros(count), np.linspace(0.3, -0.3, count) ** 2], -1)
    lengths_px = []
    for _ in range(400):
        rays = (truth - centers) / np.linalg.norm(truth - centers, axis=1, keepdims=True)
        rays = rays + 0.02 * rng.normal(size=rays.shape)  # 0.8 pixels of a focal length of 40
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        across = np.eye(3) - rays[:, :, None] * rays[:, None]
        point = np.linalg.solve(across.sum(0), (across @ centers[:, :, None]).sum(0))[:, 0]
        seen = (point - centers) / np.linalg.norm(point - centers, axis=1, keepdims=True)
        lengths_px.append(40 * np.linalg.norm(seen - rays, axis=1).mean())
    scene = scene_of([look_at(center, truth) for center in centers], [truth])
    errors_px = module._errors_px(replace(scene, points_error_px=np.array([np.mean(lengths_px)])))
    assert errors_px[0] == pytest.approx(0.8 * math.sqrt(np.pi / 2), rel=0.4 if count == 2 else 0.15)


# --- do they fit the photographs? -----------------------------------------------------------------------------------


def test_right_points_are_used_without_a_word(room, caplog):
    scene, store = room
    assert len(sights_of(scene, store)) > 600
    assert caplog.text == ""


@pytest.mark.parametrize("gains", [(1.0, 0.4), (0.9, 0.6, 0.3, 0.15)])
def test_exposure_is_no_contradiction(tmp_path: Path, gains: tuple[float, ...]):
    scene, store = opened(write_seen_points(tmp_path, gains=gains))
    assert len(sights_of(scene, store)) > 600


def scaled(points: np.ndarray, factor: float) -> np.ndarray:
    return factor * points


def flattened(points: np.ndarray) -> np.ndarray:
    """Which no wall is in."""
    return points * (0.5, 0.5, 0) - (0, 0, 1.0)


def shuffled(points: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).permutation(points)


def anywhere(points: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).uniform(-4, 4, points.shape)


@pytest.mark.parametrize(
    "change",
    [lambda p: scaled(p, 2.0), lambda p: scaled(p, 0.5), flattened, shuffled, anywhere],
    ids=["twice as far", "half as far", "on a plane", "shuffled", "anywhere"],
)
def test_wrong_points_are_not_used_and_it_says_so(room, caplog, change):
    scene, store = room
    assert observed_points(with_points(scene, change(scene.points_world)), store, store.image_ids) is None
    assert caplog.text.count(CONTRADICTED) == 1


def test_points_of_another_capture_are_not_used(room, caplog):
    """Each image keeps its rows, but photographs are those of its neighbours."""
    scene, store = room
    names = store.image_ids
    store = ImageStore.open(scene, 1, store.folder, progress=False)
    rows = {name: store.records[other].point_rows for name, other in zip(names, names[5:] + names[:5], strict=True)}
    store.records = {name: replace(image, point_rows=rows[name]) for name, image in store.records.items()}
    assert observed_points(scene, store, names) is None
    assert CONTRADICTED in caplog.text


def test_a_few_wrong_ones_among_them_do_not_matter(room, caplog):
    scene, store = room
    points = scene.points_world.copy()
    wrong = np.random.default_rng(0).random(len(points)) < 0.05
    points[wrong] *= np.random.default_rng(1).uniform(0.4, 2.5, (int(wrong.sum()), 1))
    assert len(sights_of(with_points(scene, points), store)) > 600
    assert caplog.text == ""


def test_few_sights_are_not_used_and_it_says_so(tmp_path: Path, caplog):
    scene, store = opened(write_seen_points(tmp_path, points=20))
    assert observed_points(scene, store, store.image_ids) is None
    assert "saw sparse points only" in caplog.text


def test_a_capture_without_tracks_is_no_matter(room, caplog):
    scene, store = room
    store = ImageStore.open(scene, 1, store.folder, progress=False)
    none = np.zeros(0, np.int64)
    store.records = {name: replace(image, point_rows=none) for name, image in store.records.items()}
    assert observed_points(scene, store, store.image_ids) is None
    assert caplog.text == ""


def test_an_image_that_cannot_be_decoded_is_passed_over(tmp_path: Path):
    root = write_seen_points(tmp_path)
    content = (root / "images/03.png").read_bytes()
    (root / "images/03.png").write_bytes(content[: len(content) // 2])
    scene, store = opened(root)
    image_ids = tuple(image.id for image in scene.images)
    assert len(store.records) == 15
    points = observed_points(scene, store, image_ids)
    assert points is not None
    assert set(points.slots.tolist()) == set(range(16)) - {3}


def test_photographs_of_another_size_scale_the_errors_of_points(tmp_path: Path):
    root = write_seen_points(tmp_path)
    write_errors(root, 0.6)
    same = read_errors(root)
    for path in (root / "images").iterdir():
        with Image.open(path) as picture:
            picture.resize((48, 36)).save(path)
    assert np.allclose(same, 0.6)
    assert np.allclose(read_errors(root), 0.3)


def write_errors(root: Path, error_px: float) -> None:
    model = pycolmap.Reconstruction(root / "sparse/0")
    for point in model.points3D.values():
        point.error = error_px
    model.write(root / "sparse/0")


def read_errors(root: Path) -> np.ndarray:
    scene, _ = opened(root)
    assert scene.points_error_px is not None
    return scene.points_error_px
