"""The speed of the viewer of a trained city, from the command to the page in a Chromium without a screen.

The camera moves back and forth at the page's first view; a preview is a picture that has reached the browser. Times end
when viser has received the picture; they do not include drawing in the browser. A second row has the figures of the
render thread alone, without a browser, which draws in software here and uses the cores.

python -m benchmarks.scale.viewer OUT [--max-width 960] [--seconds 5] [--repeats 3]
    [--without-browser]
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import numpy as np

from benchmarks.report import report
from benchmarks.results import Cell, measured
from blocknerf.blocks.output import load_output, open_scene
from blocknerf.runtime.cores import available_cores
from blocknerf.runtime.threads import use_threads
from blocknerf.viewer.city_watcher import CityWatcher
from blocknerf.viewer.drawing import draw
from blocknerf.viewer.loop import RenderedFrame, RenderLoop
from blocknerf.viewer.map import first_view
from blocknerf.viewer.render_request import RenderRequest

ASPECT = 16 / 9
TICK_S = 1 / 30
PATIENCE_S = 120
CHROMIUM = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--max-width", type=int, default=960)
    parser.add_argument("--seconds", type=float, default=5.0, help="so long the camera moves")
    parser.add_argument("--repeats", type=int, default=3, help="how often the camera stops")
    parser.add_argument("--without-browser", action="store_true")
    options = parser.parse_args()
    rows = of_the_thread(options.out, options.max_width, options.seconds, options.repeats)
    if not options.without_browser:
        rows |= of_the_page(options.out, options.max_width, options.seconds)
    report("scale/viewer", rows)


class Watched:
    """A render loop whose pictures are noted with the moment at which they came."""

    def __init__(self, out: Path, max_width: int):
        newest = CityWatcher(out)
        config, _ = load_output(out)
        self.start = RenderRequest(first_view(newest.city, open_scene(out, config.dataset), ASPECT))
        self.came: list[tuple[float, RenderRequest, RenderedFrame]] = []
        self.drawn: list[RenderRequest] = []
        self.arrived = threading.Condition()

        def drawing(wish, width, keep_going):
            self.drawn.append(wish)
            return draw(newest.city, None, wish, width, keep_going)

        self.loop = RenderLoop(
            drawing,
            self._show,
            lambda key, sentence: sys.exit(sentence),
            lambda: False,
            lambda: use_threads(available_cores(), newest.city.worker),
            max_width,
        )
        self.loop.start()

    def _show(self, key, frame: RenderedFrame) -> None:
        with self.arrived:
            self.came.append((time.perf_counter(), self.drawn[-1], frame))
            self.arrived.notify_all()

    def rest(self, wish: RenderRequest) -> list[tuple[float, RenderedFrame]]:
        """Seconds from the wish to each of its pictures, to the last."""
        self.came.clear()
        begin_s = time.perf_counter()
        self.loop.wish("me", wish)
        with self.arrived:
            self.arrived.wait_for(
                lambda: self.came and self.came[-1][1] is wish and self.came[-1][2].is_last, PATIENCE_S
            )
        return [(moment - begin_s, frame) for moment, of, frame in self.came if of is wish]

    def move(self, seconds: float) -> list[RenderedFrame]:
        """Pictures that came while a camera moved all the time."""
        self.came.clear()
        begin_s = time.perf_counter()
        while (now_s := time.perf_counter() - begin_s) < seconds:
            self.loop.wish("me", moved(self.start, 0.3 * np.sin(now_s)))
            time.sleep(TICK_S)
        return [frame for *_, frame in self.came]


def moved(wish: RenderRequest, sideways_m: float) -> RenderRequest:
    pose = wish.viewpoint.world_from_cam.copy()
    pose[:, 3] += sideways_m * pose[:, 0]
    return replace(wish, viewpoint=replace(wish.viewpoint, world_from_cam=pose))


def of_the_thread(out: Path, max_width: int, seconds: float, repeats: int) -> dict[str, dict[str, Cell]]:
    """Previews a second while moving, and what comes when after stopping."""
    watched = Watched(out, max_width)
    watched.rest(watched.start)  # compiles, and loads the blocks
    previews = watched.move(seconds)
    stops = [watched.rest(moved(watched.start, 0.1 * number)) for number in range(repeats)]
    watched.loop.stop()
    within_2s = [max((width_of(frame) for taken_s, frame in stop if taken_s <= 2), default=0) for stop in stops]
    preview_px = round(statistics.mean(width_of(frame) for frame in previews))
    rate = measured(len(previews) / seconds, "a second", ".1f", f"{preview_px} pixels wide")
    largest = f"at least {min(within_2s)} pixels wide within 2 s"
    return {
        "without a browser: previews while the camera moves": {"must": "5 a second", "measured": rate},
        "without a browser: the first picture after a stop": {
            "measured": measured([stop[0][0] for stop in stops], "s")
        },
        f"without a browser: the largest picture, {max_width} pixels wide, after a stop": {
            "must": "2 s",
            "measured": measured([stop[-1][0] for stop in stops], "s", ".2f", largest),
        },
    }


def width_of(frame: RenderedFrame) -> int:
    return frame.drawn.rgb.shape[1]


def of_the_page(out: Path, max_width: int, seconds: float) -> dict[str, dict[str, Cell]]:
    """From the command to the page, from the page to its first picture, and pictures while a key is held down."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        sys.exit("There is no Chromium here. Install one, or measure --without-browser.")
    port = 18080
    command = [sys.executable, "-m", "blocknerf", "view", str(out), "--port", str(port), "--max-width", str(max_width)]
    begin_s = time.perf_counter()
    viewer = subprocess.Popen(command)
    try:
        while not answers(f"http://127.0.0.1:{port}"):
            if viewer.poll() is not None or time.perf_counter() - begin_s > PATIENCE_S:
                sys.exit("the viewer did not open")
        opens_s = time.perf_counter() - begin_s
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=program, args=list(CHROMIUM))
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            page.goto(f"http://127.0.0.1:{port}")
            page.wait_for_selector("text=Blocks", timeout=PATIENCE_S * 1000)
            up_s = time.perf_counter()
            page.wait_for_selector("text=pixels in", timeout=PATIENCE_S * 1000)
            first_s = time.perf_counter() - up_s
            page.mouse.move(300, 400)
            seen = moving_pictures(page, seconds)
            browser.close()
    finally:
        viewer.terminate()
        viewer.wait()
    return {
        "browser: from the command to the page": {"must": "5 s", "measured": measured(opens_s, "s", ".1f")},
        "browser: from the page to its first picture": {"must": "1 s", "measured": measured(first_s, "s")},
        "browser: pictures while a key is held": {"must": "5 a second", "measured": measured(seen, "a second", ".1f")},
    }


def moving_pictures(page, seconds: float) -> float:
    """Pictures per second that reached a browser while the camera moved, counted by the line with the time of each."""
    page.evaluate(
        """() => { window.pictures = 0; new MutationObserver(changes => { for (const change of changes)
        if (change.target.textContent.includes('pixels in')) { window.pictures += 1; break; } })
        .observe(document.body, {subtree: true, childList: true, characterData: true}); }"""
    )
    page.keyboard.down("a")
    time.sleep(seconds)
    count = page.evaluate("window.pictures")
    page.keyboard.up("a")
    return count / seconds


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=1):
            return True
    except OSError:
        time.sleep(0.05)
        return False


if __name__ == "__main__":
    main()
