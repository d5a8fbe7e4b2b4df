"""`blocknerf export points | mesh | depth | orthophoto` on a city of the painted room."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from blocknerf.blocks.output import load_output, open_scene
from blocknerf.blocks.plan import planned_split
from blocknerf.city.city import City
from blocknerf.cli.export_depth import export_depth
from blocknerf.cli.main import main
from blocknerf.core.errors import UserError
from blocknerf.core.types import Appearance
from blocknerf.export import maps
from blocknerf.export.paths import captured_views, view_rays
from blocknerf.scene.depth import read_depth_z_m
from tests.support.room import HALF_ROOM_M, wall_distances_m, write_room
from tests.support.solids import Solid
from tests.support.tiny_run import tiny_run, train

KINDS = ("points", "mesh", "depth", "orthophoto")


@pytest.fixture(scope="module")
def city(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("city") / "out"
    train(tiny_run(write_room(tmp_path_factory.mktemp("room")), out))
    return out


@pytest.fixture
def exact(monkeypatch):
    """The blocks show the room as it is."""
    room = Solid(lambda origins, directions: wall_distances_m(origins, directions)[:, 0])
    real = maps.surface_map
    monkeypatch.setattr(maps, "surface_map", lambda block, *rest: real(room, *rest))


def test_points_lie_on_the_walls(city, tmp_path, exact):
    plyfile = pytest.importorskip("plyfile")
    main(
        [
            "export",
            "points",
            str(city),
            "--out",
            str(tmp_path / "a" / "p.ply"),
            "--tolerance",
            "0.05",
            "--spacing",
            "0.1",
        ]
    )
    vertices = plyfile.PlyData.read(tmp_path / "a" / "p.ply")["vertex"]
    places = np.stack([vertices[name] for name in "xyz"], -1)
    assert len(places) > 100
    np.testing.assert_allclose(np.abs(places).max(axis=1), HALF_ROOM_M, atol=0.06)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["p.ply"]  # the maps are gone


def test_mesh_lies_on_the_walls(city, tmp_path, exact):
    trimesh = pytest.importorskip("trimesh")
    pytest.importorskip("skimage")
    main(["export", "mesh", str(city), "--out", str(tmp_path / "m.ply"), "--voxel", "0.25"])
    mesh = trimesh.load(tmp_path / "m.ply", process=False)
    assert mesh.area > 20
    off_m = np.abs(np.abs(mesh.vertices).max(axis=1) - HALF_ROOM_M)
    assert np.median(off_m) < 0.05
    assert off_m.max() < 0.25
    assert [path.name for path in tmp_path.iterdir()] == ["m.ply"]


@pytest.mark.parametrize("kind", ["depth_z_m", "distance_m"])
@pytest.mark.parametrize("form", ["exr", "npy"])
def test_depth_maps_are_what_the_city_shows_and_are_opened_by_others(city, tmp_path, kind, form):
    pytest.importorskip("OpenEXR")
    main(["export", "depth", str(city), "--out", str(tmp_path), "--format", form, "--kind", kind])
    config, plan = load_output(city)
    scene = open_scene(city, config.dataset)
    test = planned_split(plan, scene)[1]
    opened, views = City.open(city), captured_views(test, scene.cameras, 1)
    for image, view in zip(test, views, strict=True):
        path = (tmp_path / image.name).with_suffix(f".{kind}.{form}")
        depth = _read(path, "Z" if kind == "depth_z_m" else kind)
        rays = view_rays(view)
        center = torch.from_numpy(image.world_from_cam[:, 3].copy())
        rendered = opened.render(rays, center, Appearance(drive=image.drive))
        along = (rays.directions.numpy() @ image.world_from_cam[:, 2]) if kind == "depth_z_m" else 1.0
        expected = np.where(rendered.opacity.numpy() >= 0.5, rendered.distance_m.numpy() * along, 0)
        np.testing.assert_allclose(depth, expected.reshape(depth.shape), rtol=1e-5)
        if (form, kind) == ("npy", "depth_z_m"):
            np.testing.assert_array_equal(read_depth_z_m(path, (view.width, view.height)), depth)


def test_depth_of_somebody_else_stays(city, tmp_path):
    config, plan = load_output(city)
    first = planned_split(plan, open_scene(city, config.dataset))[1][0]
    foreign = (tmp_path / first.name).with_suffix(".depth_z_m.npy")
    foreign.parent.mkdir(parents=True, exist_ok=True)
    foreign.write_bytes(b"theirs")
    with pytest.raises(UserError, match="depth_z_m.npy was not written by an export"):
        export_depth(city, folder=tmp_path, format="npy", size="8x6")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [foreign]
    assert foreign.read_bytes() == b"theirs"
    for _ in range(2):  # its own are written anew
        export_depth(city, folder=tmp_path / "new", format="npy", size="8x6")


def _read(path: Path, channel: str) -> np.ndarray:
    if path.suffix == ".npy":
        return np.load(path)
    import OpenEXR

    with OpenEXR.File(str(path)) as file:
        return file.channels()[channel].pixels


def test_an_orthophoto_shows_the_floor_of_the_cells(city, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    main(["export", "orthophoto", str(city), "--out", str(tmp_path / "o.tif"), "--pixel", "0.25", "--top", "1"])
    with rasterio.open(tmp_path / "o.tif") as file:
        assert file.count == 4
        assert file.transform.a == 0.25
        assert file.read(4).max() > 0
    with pytest.raises(SystemExit):
        main(["export", "orthophoto", str(city), "--out", str(tmp_path / "o.png")])


@pytest.mark.parametrize("what", KINDS)
def test_an_untrained_city_says_so(tmp_path, capsys, what):
    room = write_room(tmp_path / "room", images=4)
    tiny_run(room, tmp_path / "out")
    with pytest.raises(SystemExit) as exit:
        main(["export", what, str(tmp_path / "out")])
    assert exit.value.code == 2
    assert "Train it first with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("what", "package", "arguments"),
    [
        ("mesh", "skimage", []),
        ("mesh", "trimesh", ["--out", "m.glb"]),
        ("depth", "OpenEXR", []),
        ("orthophoto", "rasterio", []),
    ],
)
def test_a_missing_package_is_named_before_anything_is_rendered(city, monkeypatch, capsys, what, package, arguments):
    for name in [name for name in sys.modules if name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(maps, "surface_map", None)
    with pytest.raises(SystemExit) as exit:
        main(["export", what, str(city), *arguments])
    assert exit.value.code == 2
    output = capsys.readouterr().err
    assert f"needs {package}, which is not installed; run: pip install 'blocknerf[export]'" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mesh", "--out", "m.obj"], "must end in .ply or .glb"),
        (["mesh", "--voxel", "0"], "must be above 0"),
        (["points", "--out", "p.las"], "must end in .ply"),
        (["points", "--tolerance", "2"], "between 0 and 1"),
        (["points", "--views", "0"], "--views 0 at least 1"),
        (["depth", "--path", "nowhere"], "is unknown"),
        (["depth", "--drive", "night"], "not trained on a drive 'night'"),
    ],
)
def test_bad_arguments(city, capsys, arguments, message):
    with pytest.raises(SystemExit) as exit:
        main(["export", arguments[0], str(city), *arguments[1:]])
    assert exit.value.code == 2
    assert message in capsys.readouterr().err
