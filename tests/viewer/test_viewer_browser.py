"""The page in a real Chromium: it loads, the camera moves, a slider is set, and each time the picture is another."""

import io
import json
import shutil
import time

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("viser", reason="the viewer needs: pip install 'blocknerf[view]'")
playwright = pytest.importorskip("playwright.sync_api", reason="driving a browser needs: pip install 'blocknerf[dev]'")

PATIENCE_S = 60
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SOFTWARE_WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")


@pytest.fixture(scope="module")
def browser():
    program = next((found for found in map(shutil.which, BROWSERS) if found), None)
    if program is None:
        pytest.skip(f"no Chromium on this machine: none of {', '.join(BROWSERS)} is on the path")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", *SOFTWARE_WEBGL])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def viewer(built, tmp_path_factory):
    from blocknerf.viewer.viewer import Viewer

    out = tmp_path_factory.mktemp("browsed") / "out"  # paths are written into it
    shutil.copytree(built[0], out)
    viewer = Viewer(out, built[1], port=0, max_width=200)
    yield viewer
    viewer.stop()


class Visit:
    """A page that is open, and what its console said."""

    def __init__(self, browser, url: str):
        self.page = browser.new_page(viewport={"width": 800, "height": 480})
        self.errors: list[str] = []
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(url)
        self.settle()

    def settle(self) -> None:
        """Waits for the largest picture of what is wanted now."""
        until(lambda: "pixels in" in self.status() and "follows" not in self.status())

    def status(self) -> str:
        return self.page.locator("body").inner_text()

    def picture(self) -> np.ndarray:
        """What the canvas shows, without the panels around its middle."""
        box = self.page.locator("canvas[data-engine]").bounding_box()
        clip = {"x": box["x"] + 10, "y": box["height"] / 2, "width": 200, "height": box["height"] / 2 - 10}
        shot = Image.open(io.BytesIO(self.page.screenshot(clip=clip))).convert("RGB")
        return np.asarray(shot).astype(int)

    def picture_after(self, act) -> np.ndarray:
        """The picture that an act leads to, which must be another one than before."""
        before = self.picture()
        act()
        until(lambda: np.abs(self.picture() - before).mean() > 0.5)
        self.settle()
        return self.picture()

    def open_folder(self, name: str) -> None:
        self.page.get_by_text(name, exact=True).click()


def until(condition) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "the page never came to it"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def visit(browser, viewer):
    visit = Visit(browser, viewer.url)
    yield visit
    visit.page.close()


def test_the_page_shows_a_picture_that_moves_with_the_camera(visit):
    first = visit.picture()
    assert first.std() > 1

    def walk():
        visit.page.locator("canvas[data-engine]").hover(position={"x": 100, "y": 300})
        visit.page.keyboard.down("a")
        time.sleep(0.5)
        visit.page.keyboard.up("a")

    visit.picture_after(walk)
    assert visit.errors == []


def test_a_slider_changes_the_picture(visit):
    visit.page.get_by_role("slider").nth(1).focus()
    visit.picture_after(lambda: visit.page.keyboard.press("End"))
    assert visit.errors == []


def test_a_photograph_is_gone_to_and_compared(visit):
    visit.picture_after(lambda: visit.page.get_by_role("button", name="next").click())
    visit.page.get_by_role("combobox", name="Compare").click()
    visit.picture_after(lambda: visit.page.get_by_role("option", name="side by side").click())
    assert visit.errors == []


def test_a_path_is_recorded_and_its_command_shown(visit, viewer, built):
    visit.open_folder("Path")
    for _ in range(2):
        visit.page.get_by_role("button", name="Add a keyframe").click()
        visit.picture_after(lambda: visit.page.get_by_role("button", name="next").click())
    visit.page.get_by_role("button", name="Save for render").click()
    until(lambda: "blocknerf render" in visit.status())
    (path,) = (viewer._out / "paths").glob("*.json")
    frames = json.loads(path.read_text())["frames"]
    assert len(frames) == 120
    ends = np.array([frames[0]["world_from_cam"], frames[-1]["world_from_cam"]])
    poses = np.stack([image.world_from_cam for image in built[1].images])
    distances = np.abs(poses[None] - ends[:, None]).max(axis=(2, 3))
    assert distances.min(axis=1).max() < 1e-4
    assert distances.argmin(axis=1).tolist() == [1, 2]
    assert visit.errors == []


def test_a_browser_that_goes_away_while_it_is_drawn_for_leaves_the_others_their_pictures(browser, viewer, visit):
    other = Visit(browser, viewer.url)
    other.page.locator("canvas[data-engine]").hover(position={"x": 100, "y": 300})
    other.page.keyboard.down("w")
    time.sleep(0.2)
    other.page.close()
    until(lambda: len(viewer._pages) == 1)
    visit.picture_after(lambda: visit.page.get_by_role("button", name="next").click())
    assert visit.errors == []
