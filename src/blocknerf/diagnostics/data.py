"""Checks of a capture: rays in range, and images that do not stand out from their drive.

Outliers are found by medians: a single bad image moves neither the median nor the median absolute deviation.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from blocknerf.core.errors import listed
from blocknerf.diagnostics.findings import Finding
from blocknerf.scene.sampler import PixelBatch
from blocknerf.scene.scene import ImageRecord
from blocknerf.scene.store import ImageStore

NORMAL = 1.4826
"""Standard deviations of a normal distribution in one median absolute deviation."""
OUTLYING = 8.0
"""Number of such deviations from the median at which a value is an outlier."""
WINDOW = 2
"""Number of images before and after in a drive with which an image's pose is compared."""
FEWEST_IN_DRIVE = 5
LEAST_EXPOSURE_STOPS, LEAST_BRIGHTNESS_STOPS = 3.0, 2.0
LEAST_TURN_RAD = 0.35
LEAST_MOVE_SHARE = 0.05
"""Share of the median distance of cameras from their middle: smaller moves are never outliers."""
DARKEST, BRIGHTEST = 4 / 255, 251 / 255
LEAST_CONTRAST = 1 / 255
LEAST_VALID_SHARE = 0.05
UNIT_TOLERANCE = 1e-4


def check_batch(batch: PixelBatch, num_images: int) -> list[Finding]:
    """Checks batches of the sampler: finite values, unit directions, colours in [0, 1], known images."""
    rays, findings = batch.rays, []
    for name, values in (
        ("ray origins", rays.origins),
        ("ray directions", rays.directions),
        ("cone radii", rays.radii),
        ("colours", batch.rgb),
    ):
        broken = int((~values.isfinite()).reshape(len(values), -1).any(-1).sum())
        if broken:
            findings.append(Finding("error", f"{broken} of {len(values)} {name} are not finite (NaN or infinite)."))
    off = (rays.directions.norm(dim=-1) - 1).abs()
    if bool((off > UNIT_TOLERANCE).any()):
        count = int((off > UNIT_TOLERANCE).sum())
        findings.append(Finding("error", f"{count} of {len(rays)} ray directions do not have unit length."))
    if bool(((batch.rgb < 0) | (batch.rgb > 1)).any()):
        least, largest = float(batch.rgb.min()), float(batch.rgb.max())
        findings.append(Finding("error", f"Colours lie in [{least:.3g}, {largest:.3g}] instead of in [0, 1]."))
    if bool((rays.radii <= 0).any()):
        findings.append(Finding("error", f"{int((rays.radii <= 0).sum())} of {len(rays)} cone radii are not positive."))
    if bool(((rays.image_slots < 0) | (rays.image_slots >= num_images)).any()):
        findings.append(Finding("error", f"Rays name images outside of the {num_images} that the block knows."))
    return findings


def check_exposures(images: Sequence[ImageRecord]) -> list[Finding]:
    """Invalid exposures, and those stops away from the rest of their drive."""
    bad = [image.name for image in images if image.exposure is not None and not 0 < image.exposure < math.inf]
    findings = [Finding("error", f"The exposure of {listed(bad, 5)} is not a positive number.")] if bad else []
    known = [image for image in images if image.exposure is not None and image.name not in bad]
    unknown = len(images) - len(known) - len(bad)
    if known and unknown:
        findings.append(
            Finding("note", f"{unknown} of {len(images)} images tell no exposure; they count as the scene's mean.")
        )

    def stops(image: ImageRecord) -> float:
        return math.log2(image.exposure or 1.0)

    for image, away in _outlying_in_drives(known, stops, LEAST_EXPOSURE_STOPS):
        findings.append(
            Finding(
                "warning",
                f"{image.name} was exposed {away:+.1f} stops from the median of drive {image.drive}; is that a mistake "
                "in its EXIF or the sidecar file?",
            )
        )
    return findings


def check_poses(images: Sequence[ImageRecord]) -> list[Finding]:
    """Cameras whose place or direction differs from the images before and after them in their drive."""
    broken = [image.name for image in images if not np.isfinite(image.world_from_cam).all()]
    if broken:
        return [Finding("error", f"The pose of {listed(broken, 5)} is not finite.")]
    if len(images) < FEWEST_IN_DRIVE:
        return []
    centers = np.stack([image.world_from_cam[:, 3] for image in images])
    least_m = LEAST_MOVE_SHARE * float(np.median(np.linalg.norm(centers - np.median(centers, axis=0), axis=1)))
    findings = []
    for name, members in _drives(images).items():
        poses = np.stack([image.world_from_cam for image in members])
        moves_m = _from_neighbours(np.linalg.norm(poses[:, None, :, 3] - poses[None, :, :, 3], axis=-1))
        turns_rad = _from_neighbours(_angles(poses[:, :, :3]))
        for row in np.flatnonzero(_stand_out(moves_m, least_m)):
            findings.append(
                Finding(
                    "warning",
                    f"{members[row].name} stands {moves_m[row]:.3g} m from its neighbours in {name}, where "
                    f"{np.median(moves_m):.2g} m is usual; its pose is probably wrong.",
                )
            )
        for row in np.flatnonzero(_stand_out(turns_rad, LEAST_TURN_RAD)):
            findings.append(
                Finding(
                    "warning",
                    f"{members[row].name} is turned by {np.degrees(turns_rad[row]):.0f} degrees against its neighbours "
                    f"in {name}, where {np.degrees(np.median(turns_rad)):.0f} are usual; its pose may be wrong.",
                )
            )
    return findings


def check_pictures(store: ImageStore) -> list[Finding]:
    """Images much darker or brighter than their drive, blank images, and masks that hide nearly everything."""
    level, findings, measured, brightness = store.num_levels - 1, [], [], {}
    for image in store.records.values():
        valid = store.valid(image.id, level)
        share = float(valid.mean())
        if share == 0:
            findings.append(
                Finding("warning", f"The mask of {image.name} hides every pixel; nothing is learned of it.")
            )
            continue
        if share < LEAST_VALID_SHARE:
            findings.append(
                Finding(
                    "warning", f"The mask of {image.name} leaves {100 * share:.1f} % of its pixels; is it inverted?"
                )
            )
        pixels = store.rgb(image.id, level)[valid] / 255.0
        mean = float(pixels.mean())
        if float(pixels.std()) < LEAST_CONTRAST or not DARKEST <= mean <= BRIGHTEST:
            findings.append(
                Finding("warning", f"{image.name} shows next to nothing: its colours are all near {mean:.2f}.")
            )
            continue
        measured.append(image)
        brightness[image.id] = math.log2(mean)
    for image, away in _outlying_in_drives(measured, lambda image: brightness[image.id], LEAST_BRIGHTNESS_STOPS):
        tone = "brighter" if away > 0 else "darker"
        findings.append(
            Finding("warning", f"{image.name} is {abs(away):.1f} stops {tone} than the median of drive {image.drive}.")
        )
    return findings


def _outlying_in_drives(
    images: Sequence[ImageRecord], value: Callable[[ImageRecord], float], least: float
) -> list[tuple[ImageRecord, float]]:
    """Images whose value is farther than `least`, and than usual, from the median of their drive; and how far."""
    found = []
    for members in _drives(images).values():
        values = np.array([value(image) for image in members])
        away = values - np.median(values)
        usual = OUTLYING * NORMAL * np.median(np.abs(away))
        found += [(members[row], float(away[row])) for row in np.flatnonzero(np.abs(away) > max(least, usual))]
    return found


def _drives(images: Sequence[ImageRecord]) -> dict[str, list[ImageRecord]]:
    """By name of the drive, in the order of image names; drives too short for a median of their own are one group."""
    groups = defaultdict(list)
    for image in sorted(images, key=lambda image: image.name):
        groups[image.drive].append(image)
    long = {f"drive {drive}": members for drive, members in groups.items() if len(members) >= FEWEST_IN_DRIVE}
    short = [image for members in groups.values() if len(members) < FEWEST_IN_DRIVE for image in members]
    return long | ({"the short drives": short} if len(short) >= FEWEST_IN_DRIVE else {})


def _from_neighbours(apart: Float[np.ndarray, "n n"]) -> Float[np.ndarray, " n"]:
    """The lower median of how far each is from the WINDOW before and behind it: one stray neighbour moves it little."""
    count = len(apart)
    beside = [[j for j in range(max(0, i - WINDOW), min(count, i + WINDOW + 1)) if j != i] for i in range(count)]
    return np.array([np.sort(apart[i, rows])[(len(rows) - 1) // 2] for i, rows in enumerate(beside)])


def _stand_out(values: Float[np.ndarray, " n"], least: float) -> Bool[np.ndarray, " n"]:
    """Above OUTLYING deviations over the median, above twice the median, and above `least`."""
    median = np.median(values)
    usual = median + OUTLYING * NORMAL * np.median(np.abs(values - median))
    return values > max(float(usual), 2 * float(median), least)


def _angles(rotations: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "n n"]:
    """The angle of the turn between every two, in radians."""
    traces = np.einsum("iab,jab->ij", rotations, rotations)
    return np.arccos(np.clip((traces - 1) / 2, -1, 1))
