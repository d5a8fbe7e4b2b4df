"""Photographs of a synthetic town, where every pose is known, through the whole of `blocknerf prepare`."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, features

from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.prepare import colmap
from blocknerf.prepare import prepare as prepare_module
from blocknerf.prepare.prepare import Settings, prepare
from blocknerf.prepare.quality import Found, left_out
from blocknerf.prepare.shots import CapturedImage
from blocknerf.prepare.write_scene import cameras_of, final_frame
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.scene import GeoOrigin, poses_of
from tests.support.photo_walk import (
    METRES_PER_DEGREE_EAST,
    METRES_PER_DEGREE_NORTH,
    Walk,
    photograph_walk,
    write_photographs,
)

pytest.importorskip("embreex", reason="the synthetic city needs: pip install 'blocknerf[demo]'")
pytestmark = pytest.mark.demo

WRONG_ALTITUDES_M = np.array([200.0, 200, 200, 201, 199, 9000, 200, -300, 200, 200, 5000, 200])


@pytest.fixture(scope="module")
def walk() -> Walk:
    return photograph_walk(12)


@pytest.fixture(scope="module")
def photographs(walk: Walk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of one place and three of another, by GPS to a few centimetres, some altitudes absurd."""
    folder = tmp_path_factory.mktemp("card") / "photographs"
    write_photographs(folder / "there", walk, WRONG_ALTITUDES_M)
    write_photographs(folder / "elsewhere", photograph_walk(3, 0.7, 10.0, -80.0), gap_at=0)
    return folder


@pytest.fixture(scope="module")
def prepared(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    out = tmp_path_factory.mktemp("prepared") / "scene"
    figures = prepare(photographs, out, Settings())
    return SimpleNamespace(out=out, figures=figures, scene=read_scene(out, DatasetConfig()))


@pytest.fixture
def no_colmap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is slow fails."""

    def refuse(*_, **__):
        raise AssertionError("this was done before")

    for name in ("find_features", "find_matches", "map_cameras"):
        monkeypatch.setattr(colmap, name, refuse)


def hashes(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_cameras_stand_where_they_stood(prepared, walk):
    """In metres east, north and up: GPS gives the scale, and wild altitudes spoil nothing."""
    assert [image.name for image in prepared.scene.images] == [f"there/{name}" for name in walk.names]
    poses, true = poses_of(prepared.scene.images), walk.world_from_cam
    origin = prepared.figures["georeference"]["origin"]
    assert prepared.scene.geo_origin == GeoOrigin(*origin.values())
    east = (origin["longitude_deg"] - 16.37) * METRES_PER_DEGREE_EAST
    north = (origin["latitude_deg"] - 48.2) * METRES_PER_DEGREE_NORTH
    expected = true[:, :, 3] - (east, north, 0)
    np.testing.assert_allclose(poses[:, :2, 3], expected[:, :2], atol=0.25)
    up = poses[:, 2, 3] - expected[:, 2]
    np.testing.assert_allclose(up - up.mean(), 0, atol=0.25)
    assert abs(np.median(poses[:, 2, 3])) < 1  # the median altitude is that of the origin
    assert abs(origin["altitude_m"] - 200) < 1
    cosines = (np.einsum("nij,nij->n", poses[:, :, :3], true[:, :, :3]) - 1) / 2
    assert (
        np.rad2deg(np.arccos(np.clip(cosines, -1, 1))).max() < 3
    )  # degrees; all look one way, so their pitch is up to the plane they walk on


def test_lengths_between_cameras_are_true(prepared, walk):
    one, other = np.triu_indices(len(walk.names), 1)
    centers, true = prepared.scene.centers_world, walk.world_from_cam[:, :, 3]
    lengths, expected = (np.linalg.norm(c[one] - c[other], axis=1) for c in (centers, true))
    np.testing.assert_allclose(np.median(lengths / expected), 1, atol=0.01)


def test_the_largest_component_is_kept_and_the_other_is_named(prepared):
    figures = prepared.figures
    assert (figures["registered"], figures["pictures"]) == (12, 15)
    assert [component["images"] for component in figures["components"]] == [12, 3]
    assert set(figures["left_out"]) == {f"elsewhere/0{n}.jpg" for n in range(3)}
    assert "component 2" in figures["left_out"]["elsewhere/00.jpg"]
    assert figures["drives"] == {"there": 12}
    assert figures["with_exposure"] == 12
    assert figures["reprojection_px"] < 0.6


def test_the_lens_is_found(prepared):
    (camera,) = prepared.figures["cameras"].values()
    assert camera["params"][0] == pytest.approx(250, rel=0.04)


def test_the_page_tells_of_every_picture(prepared):
    folder = prepared.out / "quality"
    text = (folder / "index.html").read_text()
    assert all(f"there/{n:02d}.jpg" in text for n in range(12))
    assert "12 of 15" in text
    assert "belongs to component 2" in text
    assert json.loads((folder / "quality.json").read_text()) == prepared.figures
    assert (folder / "map.png").stat().st_size > 5000
    assert (folder / "coverage.png").stat().st_size > 2000


def test_photographs_are_not_touched_nor_copied(prepared, photographs, walk):
    for name in walk.names:
        assert (prepared.out / "images/there" / name).samefile(photographs / "there" / name)


def test_the_same_command_again_computes_nothing(prepared, photographs, no_colmap):
    before = hashes(prepared.out / "sparse")
    assert prepare(photographs, prepared.out, Settings()) == prepared.figures
    assert hashes(prepared.out / "sparse") == before


def test_without_gps_the_model_is_the_same_up_to_a_similarity(prepared, photographs, no_colmap, tmp_path, walk):
    out = tmp_path / "scene"
    shutil.copytree(prepared.out, out)
    figures = prepare(photographs, out, Settings(gps="ignore"))
    assert figures["georeference"] == {"is_metric": False, "why": "--gps ignore was given"}
    poses, metric = poses_of(read_scene(out, DatasetConfig()).images), poses_of(prepared.scene.images)
    one, other = np.triu_indices(len(poses), 1)
    ratios = np.linalg.norm(poses[one, :, 3] - poses[other, :, 3], axis=1)
    ratios /= np.linalg.norm(metric[one, :, 3] - metric[other, :, 3], axis=1)
    assert np.ptp(ratios) < 1e-6 * ratios.mean()
    np.testing.assert_allclose(poses[:, 2, :3], metric[:, 2, :3], atol=1e-9)  # up is up in both


@pytest.mark.parametrize("stage", ["find_features", "find_matches", "map_cameras"])
def test_a_run_that_was_stopped_goes_on(walk, tmp_path, monkeypatch, stage):
    """Stopped in any stage, what stands before it is kept, and there is no scene yet."""
    few = replace(walk, names=walk.names[:4], world_from_cam=walk.world_from_cam[:4], pictures=walk.pictures[:4])
    write_photographs(tmp_path / "card", few)
    work = getattr(colmap, stage)

    def stop(*arguments, **keywords):
        work(*arguments, **keywords)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(colmap, stage, stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(tmp_path / "card", tmp_path / "scene", Settings())
    assert not (tmp_path / "scene" / "sparse").exists()
    counted = []
    for name in ("bring_images", "find_features", "find_matches", "map_cameras"):
        home = prepare_module if name == "bring_images" else colmap
        real = getattr(home, name)
        monkeypatch.setattr(home, name, lambda *a, real=real, name=name: counted.append(name) or real(*a))
    assert prepare(tmp_path / "card", tmp_path / "scene", Settings())["registered"] == 4
    steps = ["find_features", "find_matches", "map_cameras"]
    assert counted == steps[steps.index(stage) :]


def test_gps_that_contradicts_the_pictures(prepared):
    shots = [
        CapturedImage(**entry) for entry in json.loads((prepared.out / "prepare/images.json").read_text())["result"]
    ]
    cameras = cameras_of(prepare_module.pycolmap.Reconstruction(str(prepared.out / "sparse/0")))
    outward = [shot for shot in shots if shot.folder == "there"]
    order = np.random.default_rng(0).permutation(len(outward))
    mixed = [
        replace(shot, latitude_deg=outward[row].latitude_deg, longitude_deg=outward[row].longitude_deg)
        for shot, row in zip(outward, order, strict=True)
    ]
    with pytest.raises(UserError, match="GPS positions contradict the pictures: at best .* --gps"):
        final_frame(cameras, mixed, use_gps=True)
    assert final_frame(cameras, outward, use_gps=True)[1]["is_metric"]
    close = [replace(shot, latitude_deg=48.2 + 1e-6 * n, longitude_deg=16.37) for n, shot in enumerate(outward)]
    assert "which is no more than their error" in final_frame(cameras, close, use_gps=True)[1]["why"]
    few = [replace(shot, latitude_deg=None) if n > 3 else shot for n, shot in enumerate(outward)]
    assert "fewer than 5 pictures" in final_frame(cameras, few, use_gps=True)[1]["why"]


def test_masks_keep_features_away(walk, tmp_path):
    """What a mask hides in the source, or in OUT, gives no feature, and the scene has the mask."""
    few = replace(walk, names=walk.names[:3], world_from_cam=walk.world_from_cam[:3], pictures=walk.pictures[:3])
    write_photographs(tmp_path / "card" / "images", few)
    kept = np.full((240, 320), 255, np.uint8)
    kept[:, :160] = 0
    (tmp_path / "card" / "masks").mkdir()
    Image.fromarray(kept).save(tmp_path / "card/masks/01.jpg.png")
    prepare(tmp_path / "card", tmp_path / "scene", Settings())
    database = prepare_module.pycolmap.Database.open(tmp_path / "scene/prepare/database.db")
    plain = json.loads((tmp_path / "scene/prepare/features.json").read_text())["result"]["plain"]
    names = {inside: name for name, inside in plain.items()}
    left = {}
    for image in database.read_all_images():
        left[names[image.name]] = np.array(database.read_keypoints(image.image_id))[:, 0].min()
    database.close()
    assert left["01.jpg"] >= 159
    assert left["00.jpg"] < 60
    masks = {image.name: image.mask_paths for image in read_scene(tmp_path / "scene", DatasetConfig()).images}
    assert [path.name for path in masks["01.jpg"]] == ["01.jpg.png"]
    assert masks["00.jpg"] == ()


def test_a_folder_of_oddities_becomes_a_scene(walk, tmp_path, caplog):
    """Names that COLMAP's lists cannot hold, kinds that it does not read, endings that lie, and every size twice."""
    card = tmp_path / "card #1"
    card.mkdir()
    oddities = {
        "IMG 01 (1).webp": "WEBP",
        "#2 'x' [b].jpg": "PNG",
        "-3.avif": "AVIF",
        "4%20.tif": "TIFF",
        '5;"q".png': "PNG",
        "6\n.jpg": "JPEG",
    }
    for (name, kind), pixels in zip(oddities.items(), walk.pictures, strict=False):
        image = Image.fromarray(pixels)
        image = image.convert("P", palette=Image.Palette.ADAPTIVE) if name.startswith("5") else image
        image.save(card / name, kind if kind != "AVIF" or features.check("avif") else "WEBP", quality=95)
    figures = prepare(card, tmp_path / "scene", Settings())
    names = {name.replace("\n", "_").replace('"', "_") for name in oddities}
    assert figures["registered"] == 6
    assert {image.name for image in read_scene(tmp_path / "scene", DatasetConfig()).images} == names
    assert {path.name for path in (tmp_path / "scene/images").iterdir()} == names
    assert ": ." not in caplog.text
    assert ", ." not in caplog.text


def test_a_component_whose_pictures_are_all_placed_is_not_told_of(caplog):
    models = [colmap.Model(Path(), ("a", "b", "c"), 9), colmap.Model(Path(), ("b", "c"), 3)]
    prepare_module._tell_components(models, 3)
    assert "hang together" not in caplog.text
    prepare_module._tell_components([*models, colmap.Model(Path(), ("c", "d"), 3)], 4)
    assert "1 pictures hang together but nothing joins them to the rest, so they are skipped: d." in caplog.text


def test_why_a_picture_is_left_out():
    shots = [CapturedImage(name, 10, 10, "", "") for name in ("placed", "blank", "alone", "apart", "loose")]
    models = [colmap.Model(Path(), ("placed",), 9), colmap.Model(Path(), ("apart",), 3)]
    features = {"placed": 9, "blank": 0, "alone": 9, "apart": 9, "loose": 9}
    partners = {"placed": 2, "alone": 0, "apart": 1, "loose": 1}
    reasons = left_out(Found(shots, features, "exhaustive", partners, "", models, {}), {"placed"})
    assert reasons == {
        "blank": "no features were found in it",
        "alone": "it matches no other picture",
        "apart": "it belongs to component 2, which nothing joins to the largest",
        "loose": "its matches do not settle where it stands",
    }
