"""From a wish to a picture: laws that hold whatever the blocks have learned."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from blocknerf.blocks.map import block_colours
from blocknerf.city.city import City
from blocknerf.city.pictures import to_bytes
from blocknerf.core.camera import Camera
from blocknerf.core.errors import UserError
from blocknerf.core.types import Appearance
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.rendering.colours import distance_colours, share_colours
from blocknerf.scene.rays import camera_directions, camera_rays
from blocknerf.viewer import drawing
from blocknerf.viewer.drawing import draw
from blocknerf.viewer.map import first_view, photograph_view
from blocknerf.viewer.photographs import Photographs
from blocknerf.viewer.render_request import Comparison, RenderRequest, Viewpoint, blendings

WIDTH = 24


def always() -> bool:
    return True


@pytest.fixture(scope="module")
def city(built) -> City:
    return City.open(built[0])


@pytest.fixture(scope="module")
def photographs(built) -> Photographs:
    return Photographs(built[1])


@pytest.fixture
def view(built) -> Viewpoint:
    _, scene = built
    return photograph_view(scene, scene.images[3], 4 / 3)


def picture_of(city, wish, photographs=None, width=WIDTH):
    drawn = draw(city, photographs, wish, width, always)
    assert drawn is not None
    return drawn


def test_colours_are_those_that_the_city_renders(city, view, monkeypatch):
    monkeypatch.setattr(drawing, "RAYS_AT_ONCE", 100)  # parts that are no whole rows
    camera = view.camera(WIDTH)
    rays = camera_rays(camera, view.world_from_cam, camera.width, camera.height)
    expected = city.render(
        rays, torch.from_numpy(view.world_from_cam[:, 3].copy()), appearance=Appearance(drive="dusk")
    )
    drawn = picture_of(city, RenderRequest(view, appearance=Appearance(drive="dusk")))
    np.testing.assert_array_equal(drawn.rgb, to_bytes(expected.rgb.reshape(camera.height, camera.width, 3)))
    z = expected.distance_m.numpy() * (rays.directions.numpy() @ view.world_from_cam[:, 2].astype(np.float32))
    np.testing.assert_allclose(drawn.depth_z_m.ravel(), z, rtol=1e-5)
    assert sum(drawn.weights.values()) == pytest.approx(1, abs=1e-5)
    assert len(drawn.weights) > 1


def test_it_is_given_up_between_two_parts(city, view, monkeypatch):
    monkeypatch.setattr(drawing, "RAYS_AT_ONCE", 100)
    asked = []

    def twice() -> bool:
        asked.append(True)
        return len(asked) <= 2

    assert draw(city, None, RenderRequest(view), WIDTH, twice) is None
    assert len(asked) == 3


def test_blocks_that_are_left_out_are_not_in_the_picture(city, view):
    everything = picture_of(city, RenderRequest(view))
    heaviest = max(everything.weights, key=everything.weights.__getitem__)
    without = picture_of(city, RenderRequest(view, left_out=frozenset([heaviest])))
    assert heaviest not in without.weights
    assert (without.rgb != everything.rgb).any()
    with pytest.raises(UserError, match="Keep at least one of 000"):
        draw(city, None, RenderRequest(view, left_out=frozenset(city.ids)), WIDTH, always)


def test_every_way_of_blending_is_another_picture_and_the_first_is_the_citys_own(city, view):
    ways = blendings(city.manifest)
    assert ways == ("visibility", "distance", "nearest")
    assert blendings(replace(city.manifest, divide_by="surface"))[0] == "surface"
    pictures = [picture_of(city, RenderRequest(view, blending=way)) for way in ways]
    np.testing.assert_array_equal(pictures[0].rgb, picture_of(city, RenderRequest(view)).rgb)
    assert len({picture.rgb.tobytes() for picture in pictures}) == 3
    assert len(pictures[2].weights) == 1
    picture_of(city, RenderRequest(view, blending="surface"))


def test_exposure_and_appearance_change_the_picture(city, view):
    appearances = [
        Appearance(drive="noon"),
        Appearance(drive="dusk"),
        Appearance(drive="noon", exposure_stops=0.8),
    ]
    appearances.append(Appearance(drive="noon", blend_towards=Appearance(drive="dusk"), share=0.5))
    assert (
        len({picture_of(city, RenderRequest(view, appearance=appearance)).rgb.tobytes() for appearance in appearances})
        == 4
    )
    ends = [Appearance(drive="noon", blend_towards=Appearance(drive="dusk"), share=1.0), Appearance(drive="dusk")]
    one, other = (picture_of(city, RenderRequest(view, appearance=appearance)).rgb.astype(int) for appearance in ends)
    assert np.abs(one - other).max() <= 1


def test_one_block_alone_is_drawn_in_its_own_colour_and_has_no_seam(city, view):
    alone = picture_of(city, RenderRequest(view, "weights", blending="nearest"))
    (block_id,) = alone.weights
    colour = block_colours(4)[city.ids.index(block_id)]
    pixels = alone.rgb.reshape(-1, 3) / alone.rgb.reshape(-1, 3).sum(1, keepdims=True)
    np.testing.assert_allclose(pixels, np.broadcast_to(colour / colour.sum(), pixels.shape), atol=0.02)
    assert picture_of(city, RenderRequest(view, "seams", blending="nearest")).rgb.max() == 0
    assert picture_of(city, RenderRequest(view, "seams")).rgb.max() > 0


def test_depth_is_drawn_as_everywhere_else(city, view):
    camera = view.camera(WIDTH)
    rays = camera_rays(camera, view.world_from_cam, camera.width, camera.height)
    expected = city.render(rays, torch.from_numpy(view.world_from_cam[:, 3].copy()))
    colours = distance_colours(expected.reshape(camera.height, camera.width))
    np.testing.assert_array_equal(picture_of(city, RenderRequest(view, "depth")).rgb, to_bytes(colours))


def test_visibility_is_what_each_block_says_of_its_surfaces_by_its_shares(city, view, monkeypatch):
    monkeypatch.setattr(BlockNeRF, "visibility_along", lambda block, rays, distances_m: 0.25 * distances_m)
    drawn = picture_of(city, RenderRequest(view, "visibility"))
    middle = share_colours(torch.from_numpy(0.25 * np.linalg.norm(directions(view), axis=-1) * drawn.depth_z_m))
    assert np.abs(drawn.rgb.astype(int) - to_bytes(middle)).max() <= 8  # distances are blended by opacity as well


def directions(view: Viewpoint) -> np.ndarray:
    camera = view.camera(WIDTH)
    cam = camera_directions(camera, camera.width, camera.height)
    return cam / cam[..., 2:]


def test_a_block_without_visibility_says_so(built, view, monkeypatch):
    monkeypatch.setattr(BlockNeRF, "view_confidence", lambda block, rays, distances_m: None)
    monkeypatch.setattr(BlockNeRF, "mean_visibility", lambda block, rays: None)
    city = City.open(built[0])
    for block_id in city.ids:
        city.model(block_id).visibility = None
    with pytest.raises(UserError, match="trained without a visibility network"):
        draw(city, None, RenderRequest(view, "visibility"), WIDTH, always)


def test_half_a_viewpoint_sees_as_much_from_left_to_right(view):
    whole, half = view.camera(400), view.half().camera(200)
    assert abs(whole.height - half.height) <= 1
    edges = [camera_directions(camera, camera.width, camera.height)[0, 0] for camera in (whole, half)]
    one, other = (direction[0] / direction[2] for direction in edges)
    assert other == pytest.approx(one, abs=0.01)


def test_a_photograph_seen_from_where_it_was_taken_is_itself(built, photographs):
    image = built[1].images[3]
    pixels = np.asarray(Image.open(image.path).convert("RGB")) / 255
    view = photograph_view(built[1], image, 32 / 24)
    rgb, reached = photographs.seen_from(image.name, view, 32)
    assert reached.all()
    np.testing.assert_allclose(rgb.numpy(), pixels, atol=0.01)


def test_a_photograph_turns_with_the_camera(built, photographs):
    """Behind the camera there is nothing; on half the way round, what is seen is the photograph's right half."""
    image = built[1].images[3]
    view = photograph_view(built[1], image, 32 / 24)
    about = np.array([[-1.0, 0, 0], [0, 1, 0], [0, 0, -1]])
    back = replace(
        view, world_from_cam=np.column_stack([image.world_from_cam[:, :3] @ about, view.world_from_cam[:, 3]])
    )
    assert not photographs.seen_from(image.name, back, 32)[1].any()
    angle = np.arctan(np.tan(view.fov_y_rad / 2) * 32 / 24)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    pose = np.column_stack([image.world_from_cam[:, :3] @ turn, view.world_from_cam[:, 3]])
    reached = photographs.seen_from(image.name, replace(view, world_from_cam=pose), 32)[1].numpy()
    assert reached[12, :15].all()
    assert not reached[12, 17:].any()


def test_comparisons(city, photographs, built, view):
    name = built[1].images[3].name
    plain, photograph = picture_of(city, RenderRequest(view)), photographs.seen_from(name, view, WIDTH)[0]
    blends = [
        picture_of(city, RenderRequest(view, comparison=Comparison(name, "blend", share)), photographs)
        for share in (0.0, 1.0)
    ]
    np.testing.assert_array_equal(blends[0].rgb, plain.rgb)
    np.testing.assert_array_equal(blends[1].rgb, to_bytes(photograph))
    beside = picture_of(city, RenderRequest(view, comparison=Comparison(name, "side by side")), photographs)
    assert beside.rgb.shape[1] == WIDTH
    assert abs(beside.rgb.shape[0] - plain.rgb.shape[0]) <= 1
    assert beside.depth_z_m is None
    difference = picture_of(city, RenderRequest(view, comparison=Comparison(name, "difference")), photographs)
    assert difference.rgb.max() > 0


def test_without_photographs_nothing_is_compared(city, view):
    with pytest.raises(UserError, match="photographs are not there"):
        draw(city, None, RenderRequest(view, comparison=Comparison("a.png")), WIDTH, always)


def test_a_photograph_that_is_gone_is_named(built, tmp_path):
    scene = built[1]
    gone = replace(scene, images=(replace(scene.images[0], path=tmp_path / "gone.png"),))
    view = photograph_view(scene, scene.images[0], 1.0)
    with pytest.raises(UserError, match=r"gone\.png cannot be read"):
        Photographs(gone).seen_from(scene.images[0].name, view, 8)


def test_a_folded_lens_shows_nothing_beyond_its_picture(built):
    """With strong barrel distortion directions far outside land in the picture again."""
    scene = built[1]
    lens = Camera("SIMPLE_RADIAL", 32, 24, (25.6, 16.0, 12.0, -0.35))
    image = replace(scene.images[0], camera_key="lens")
    photographs = Photographs(replace(scene, cameras={"lens": lens}, images=(image,)))
    wide = Viewpoint(image.world_from_cam, float(np.radians(150)), 1.0)
    reached = photographs.seen_from(image.name, wide, 41)[1].numpy()
    assert reached[20, 20]
    assert not reached[20, :5].any()


def test_it_begins_at_a_photograph_or_without_one_at_an_anchor(city, built):
    with_scene = first_view(city, built[1], 1.5)
    assert any(np.array_equal(with_scene.world_from_cam, image.world_from_cam) for image in built[1].images)
    without = first_view(city, None, 1.5)
    rotation = without.world_from_cam[:, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1)
    up = np.array(city.manifest.layout.axes_world)[2]
    np.testing.assert_allclose(-rotation[:, 1], up, atol=1e-9)
    np.testing.assert_allclose(without.world_from_cam[:, 3], city.blocks[0].anchor_world)
