"""The page of one browser: its widgets, its camera, its map, and the picture behind them."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from blocknerf.city.city import City
from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.core.types import Appearance
from blocknerf.scene.scene import ImageRecord, Scene
from blocknerf.scene.trajectories import Trajectories
from blocknerf.viewer import map as city_map
from blocknerf.viewer.keyframes import LEAST_S, MOST_S, Keyframes, path_file, render_command, write_path
from blocknerf.viewer.loop import RenderedFrame
from blocknerf.viewer.page_frame import PageFrame
from blocknerf.viewer.render_request import Comparison, ComparisonMode, Kind, RenderRequest, Viewpoint, blendings
from blocknerf.viewer.viser_module import viser

NEIGHBOURS = "between neighbours"
THIS_PHOTOGRAPH = "the photograph"
ALONE = "off"
KINDS: tuple[Kind, ...] = ("colour", "depth", "visibility", "weights", "seams")
COMPARISON_MODES: tuple[ComparisonMode, ...] = ("blend", "side by side", "difference")
MOST_NAMED = 2000
DEPTH_PX = 160
"""Width: enough for hiding the map; more would cost a browser much."""
JPEG_QUALITY = 85
WALK_TOLERANCE_M = 0.02


class Page:
    """Turns the settings of a browser into requests (`wants`; None: no picture), and shows the results.

    Widgets call from viser's threads, pictures come from the render thread.
    """

    def __init__(
        self,
        client: "viser.ClientHandle",
        out: Path,
        city: City,
        scene: Scene | None,
        trajectories: Trajectories,
        absence: str | None,
        wants: Callable[[RenderRequest | None], None],
    ):
        """`absence` says why there is no scene; `trajectories` are those of the scene. This class reads the city and
        never renders it."""
        self._client, self._out, self._city, self._scene = client, out, city, scene
        self._trajectories = trajectories
        self._wants = wants
        self._frame = PageFrame.of(city.manifest, scene)
        self._keyframes = Keyframes()
        self._lock = threading.RLock()
        self._boxes: dict[str, Any] = {}
        every = 1 if scene is None else len(scene.images) // MOST_NAMED + 1
        self._images = {} if scene is None else {image.name: image for image in scene.images[::every]}
        self._eyes = np.array([block.anchor_world for block in city.manifest.blocks])
        if scene is not None:
            self._eyes = scene.centers_world
        self._status = client.gui.add_markdown("The first picture is on its way.")
        self._add_picture_folder()
        self._add_appearance_folder()
        self._blocks_folder = client.gui.add_folder("Blocks", expand_by_default=False)
        self._add_block_boxes()
        self._add_photographs_folder(absence)
        self._add_camera_folder()
        self._add_path_folder()
        self._add_map()
        client.camera.on_update(lambda _: self._moved())
        self._moved()

    def show(self, frame: RenderedFrame) -> None:
        """A picture in the background, and the blocks that made it."""
        drawn = frame.drawn
        depth = None
        if drawn.depth_z_m is not None:
            every = max(1, drawn.depth_z_m.shape[1] // DEPTH_PX)
            depth = drawn.depth_z_m[::every, ::every] * self._frame.units_per_m
        with self._lock:
            if not self._with_picture.value:
                return
            self._client.scene.set_background_image(drawn.rgb, "jpeg", jpeg_quality=JPEG_QUALITY, depth=depth)
            height, width = drawn.rgb.shape[:2]
            shares = ", ".join(f"{block_id} {share:.0%}" for block_id, share in drawn.weights.items() if share >= 0.005)
            more = "" if frame.is_last else ", a larger one follows"
            blocks = f" Blocks: {shares}." if shares else ""
            self._say(f"{width} x {height} pixels in {frame.seconds:.2f} s{more}.{blocks}")

    def fail(self, sentence: str) -> None:
        """Says why there is no picture."""
        self._say(f"**{sentence}**")

    def city_changed(self, city: City) -> None:
        """Blocks were trained meanwhile."""
        with self._lock:
            self._city = city
            self._add_block_boxes()
            city_map.draw_blocks(self._client.scene, self._frame, city)

    def _say(self, markdown: str) -> None:
        self._status.content = markdown

    def _add_picture_folder(self) -> None:
        gui = self._client.gui
        with gui.add_folder("Picture"):
            self._with_picture = gui.add_checkbox("Picture", True, hint="Off: the map alone")
            self._kind = gui.add_dropdown("Shows", KINDS)
            options = blendings(self._city.manifest)
            self._blending = gui.add_dropdown("Blending", options, hint="The first one is the city's own")
        for widget in (self._with_picture, self._kind, self._blending):
            self._when_set(widget)

    def _add_appearance_folder(self) -> None:
        gui = self._client.gui
        drives = [f"drive {drive}" for drive in sorted(self._city.drives)]
        appearances = [*drives, *([THIS_PHOTOGRAPH] if self._scene is not None else [])] or ["mean"]
        first = f"drive {self._city.main_drive}" if drives else appearances[0]
        if self._city.main_drive in self._trajectories.of_drive:
            first = NEIGHBOURS
            appearances.insert(0, first)
        least, largest = _exposure_range(self._city)
        with gui.add_folder("Look"):
            self._appearance_from = gui.add_dropdown("From", appearances, initial_value=first)
            self._appearance_to = gui.add_dropdown("To", appearances, initial_value=first)
            self._appearance_share = gui.add_slider("Between", 0.0, 1.0, 0.01, 0.0)
            none = "The images tell no exposures that differ" if least == largest else None
            self._exposure = gui.add_slider(
                "Exposure, stops", min(least, -0.1), max(largest, 0.1), 0.05, 0.0, disabled=none is not None, hint=none
            )
        for widget in (self._appearance_from, self._appearance_to, self._appearance_share, self._exposure):
            self._when_set(widget)

    def _add_block_boxes(self) -> None:
        """A box for every block that has none yet."""
        with self._blocks_folder:
            for block_id in self._city.ids:
                if block_id not in self._boxes:
                    self._boxes[block_id] = self._client.gui.add_checkbox(block_id, True)
                    self._when_set(self._boxes[block_id])

    def _add_photographs_folder(self, absence: str | None) -> None:
        gui = self._client.gui
        with gui.add_folder("Photographs"):
            if not self._images:
                gui.add_markdown(f"The photographs are not there. {absence or ''}")
                return
            self._photograph = gui.add_dropdown("Go to", tuple(self._images))
            steps = gui.add_button_group("", ("previous", "next"))
            self._comparison_mode = gui.add_dropdown("Compare", (ALONE, *COMPARISON_MODES))
            self._photograph_share = gui.add_slider("Photograph", 0.0, 1.0, 0.01, 0.5, hint="Its share of a blend")
        self._photograph.on_update(lambda _: self._guarded(self._go_to_photograph))
        steps.on_click(lambda event: self._guarded(lambda: self._step(1 if event.target.value == "next" else -1)))
        self._comparison_mode.on_update(lambda _: self._guarded(self._show_map_where_it_fits))
        for widget in (self._comparison_mode, self._photograph_share):
            self._when_set(widget)

    def _add_camera_folder(self) -> None:
        gui = self._client.gui
        with gui.add_folder("Camera", expand_by_default=False):
            self._motion = gui.add_dropdown(
                "Motion", ("fly", "walk"), hint="Walking stays at the height of the cameras"
            )
            above = gui.add_button("Seen from above")
            gui.add_markdown("W A S D move, Q E sink and rise, arrow keys turn; drag to orbit.")
        self._motion.on_update(lambda _: self._moved())
        above.on_click(lambda _: self._guarded(self._rise))

    def _add_path_folder(self) -> None:
        gui = self._client.gui
        with gui.add_folder("Path", expand_by_default=False):
            add, remove = gui.add_button("Add a keyframe"), gui.add_button("Remove the last")
            self._path_seconds = gui.add_number("Seconds", 5.0, min=LEAST_S, max=MOST_S, step=0.5)
            self._path_name = gui.add_text("Name", "path")
            save = gui.add_button("Save for render")
            self._path_status = gui.add_markdown("No keyframe yet.")
        add.on_click(lambda _: self._guarded(lambda: self._keep(self._keyframes.and_then(self._viewpoint()))))
        remove.on_click(lambda _: self._guarded(lambda: self._keep(self._keyframes.without_last())))
        save.on_click(lambda _: self._guarded(self._save_path))

    def _add_map(self) -> None:
        gui, scene_api = self._client.gui, self._client.scene
        visibility = {"Blocks": True, "Cubes": False}
        if self._scene is not None:
            visibility |= {"Photographs": True, "Points": False}
        self._groups = {}
        with gui.add_folder("Map", expand_by_default=False):
            for name, is_visible in visibility.items():
                group = scene_api.add_frame(f"/{name.lower()}", show_axes=False, visible=is_visible)
                box = gui.add_checkbox(name, is_visible)
                box.on_update(lambda _: self._guarded(self._show_map_where_it_fits))
                self._groups[name] = group, box
        city_map.draw_blocks(scene_api, self._frame, self._city)
        if self._scene is not None:
            city_map.draw_points(scene_api, self._frame, self._scene)
            city_map.draw_cameras(scene_api, self._frame, self._scene, self._photograph_clicked)

    def _when_set(self, widget: Any) -> None:
        widget.on_update(lambda _: self._guarded(self._wish))

    def _guarded(self, act: Callable[[], None]) -> None:
        """One at a time; shows errors that a user can fix on the page, and also that something else went wrong."""
        with self._lock:
            try:
                act()
            except UserError as error:
                self.fail(str(error))
            except Exception as error:
                log.exception("The viewer could not do what was asked for in a page.")
                self.fail(f"That did not work ({error!r:.200}); the console says more.")

    def _moved(self) -> None:
        self._guarded(self._walk)
        self._guarded(self._wish)

    def _wish(self) -> None:
        if not self._with_picture.value:
            self._client.scene.set_background_image(None)
            self._wants(None)
            self._say("The map alone.")
            return
        self._wants(
            RenderRequest(
                viewpoint=self._viewpoint(),
                kind=self._kind.value,
                blending=self._blending.value,
                left_out=frozenset(block_id for block_id, box in self._boxes.items() if not box.value),
                appearance=self._requested_appearance(),
                comparison=self._comparison(),
            )
        )

    def _viewpoint(self) -> Viewpoint:
        camera = self._client.camera
        return Viewpoint(self._frame.pose(camera.wxyz, camera.position), camera.fov, camera.aspect)

    def _requested_appearance(self) -> Appearance:
        share = float(self._appearance_share.value)
        return replace(
            self._appearance(self._appearance_from.value),
            exposure_stops=float(self._exposure.value),
            blend_towards=self._appearance(self._appearance_to.value) if share else None,
            share=share,
        )

    def _appearance(self, name: str) -> Appearance:
        """Of an entry of the two lists of looks; without a photograph or a drive, that of the place."""
        chosen = self._chosen(name)
        if isinstance(chosen, ImageRecord):
            return Appearance(chosen.id, chosen.drive)
        if name == NEIGHBOURS:
            return self._trajectories.appearance_near(self._viewpoint().world_from_cam, self._city.main_drive)
        return Appearance(drive=chosen)

    def _chosen(self, name: str) -> ImageRecord | str | None:
        """What an entry of the two lists of looks stands for: a photograph, a drive, or neither."""
        if name == THIS_PHOTOGRAPH:
            return self._images[self._photograph.value]
        return name.removeprefix("drive ") if name.startswith("drive ") else None

    def _comparison(self) -> Comparison | None:
        if not self._images or self._comparison_mode.value == ALONE:
            return None
        share = float(self._photograph_share.value)
        return Comparison(self._photograph.value, cast(ComparisonMode, self._comparison_mode.value), share)

    def _photograph_clicked(self, name: str) -> None:
        def go() -> None:
            self._photograph.value = name
            self._go_to_photograph()

        self._guarded(go)

    def _step(self, by: int) -> None:
        names = list(self._images)
        self._photograph.value = names[(names.index(self._photograph.value) + by) % len(names)]
        self._go_to_photograph()

    def _go_to_photograph(self) -> None:
        """Moves the camera to the photograph, with its appearance, so that the two can be compared."""
        assert self._scene is not None
        image = self._images[self._photograph.value]
        self._go_to(city_map.photograph_view(self._scene, image, self._client.camera.aspect))
        self._with_picture.value = True
        self._appearance_from.value, self._appearance_share.value, self._exposure.value = THIS_PHOTOGRAPH, 0.0, 0.0
        self._wish()

    def _go_to(self, viewpoint: Viewpoint) -> None:
        wxyz, position = self._frame.place(viewpoint.world_from_cam)
        camera = self._client.camera
        with self._client.atomic():
            camera.fov = viewpoint.fov_y_rad
            camera.position = position
            camera.wxyz = wxyz

    def _rise(self) -> None:
        """Above the middle of the city, high enough to see all of it, with only the map."""
        places = self._frame.points(self._eyes)
        middle, extent = places.mean(axis=0), max(float(np.ptp(places, axis=0).max()), 1.0)
        with self._client.atomic():
            self._client.camera.position = middle + extent * np.array([0.0, -0.3, 1.0])
            self._client.camera.look_at = middle
        self._with_picture.value = False
        self._wish()

    def _walk(self) -> None:
        """Puts a walking camera at the height of the nearest one that took a photograph."""
        if self._motion.value != "walk":
            return
        camera, places = self._client.camera, self._frame.points(self._eyes)
        position = np.array(camera.position)
        nearest = np.square(places[:, :2] - position[:2]).sum(axis=1).argmin()
        if abs(places[nearest, 2] - position[2]) > WALK_TOLERANCE_M * self._frame.units_per_m:
            camera.position = np.append(position[:2], places[nearest, 2])

    def _show_map_where_it_fits(self) -> None:
        """Two pictures side by side have other cameras than the map."""
        comparison = self._comparison()
        fits = comparison is None or comparison.manner != "side by side" or not self._with_picture.value
        for group, box in self._groups.values():
            group.visible = bool(box.value) and fits

    def _keep(self, keyframes: Keyframes) -> None:
        self._keyframes = keyframes
        count = len(keyframes.viewpoints)
        self._path_status.content = f"{count} keyframe{'' if count == 1 else 's'}."
        if count > 1:
            city_map.draw_way(self._client.scene, self._frame, keyframes.poses(32 * count))
        else:
            self._client.scene.remove_by_name("/way")

    def _save_path(self) -> None:
        path, appearance = path_file(self._out, self._path_name.value), self._requested_appearance()
        drive = None if self._appearance_from.value == NEIGHBOURS else appearance.drive
        frames = write_path(path, self._keyframes, float(self._path_seconds.value), drive)
        chosen = [self._chosen(self._appearance_from.value)]
        chosen += [self._chosen(self._appearance_to.value)] if appearance.blend_towards is not None else []
        names = [image.name for image in chosen if isinstance(image, ImageRecord)]
        alike = len(names) in (0, len(chosen)) and (len(chosen) == 1 or bool(names))
        hint = "" if alike else "\n\nrender goes between two photographs only: frames take the look *From*."
        command = render_command(
            self._out, path, appearance, names if alike else names[: int(appearance.image_id is not None)]
        )
        self._path_status.content = f"{frames} frames in {path}. Film them with\n\n```\n{command}\n```{hint}"


def _exposure_range(city: City) -> tuple[float, float]:
    """The smallest and largest stops on which any block was trained; (0, 0) if no block uses exposure."""
    known = [block.meta.model.exposures for block in city.blocks]
    ranges = [exposures.range_stops for exposures in known if exposures is not None] or [(0.0, 0.0)]
    return min(least for least, _ in ranges), max(largest for _, largest in ranges)
