"""The presets of synthetic cities."""

from dataclasses import dataclass, replace
from typing import Literal

from blocknerf.synth.drives import Drive
from blocknerf.synth.town import StreetPlan

PresetName = Literal["tiny", "hours", "passes", "street", "street_small", "city"]


@dataclass(frozen=True, slots=True)
class Preset:
    """Numbers of stations are odd, so that every 8th image by name is at other stations for each camera."""

    plan: StreetPlan
    drives: tuple[Drive, ...]
    width: int
    height: int
    samples_edge: int  # samples per pixel: its square
    cars: int  # moving ones
    points_per_image: int
    suffix: str
    contrast: float = 0.0  # pixels with less take one sample; 0 gives all samples to every pixel


_STREET = Preset(
    StreetPlan(xs=(15.0,), ys=(0.0,), bounds=(-72.0, -30.0, 72.0, 64.0)),
    (
        Drive("drive1_0830", 8.5, ((66.0, 0.0), (-66.0, 0.0)), 27),
        Drive("drive2_1300", 13.0, ((15.0, 58.0), (15.0, 0.0), (66.0, 0.0)), 25),
        Drive("drive3_1830", 18.5, ((-66.0, 0.0), (15.0, 0.0), (15.0, 58.0)), 29),
    ),
    width=480,
    height=360,
    samples_edge=3,
    cars=5,
    points_per_image=100,
    suffix=".jpg",
    contrast=0.2,
)

PRESETS: dict[PresetName, Preset] = {
    "tiny": Preset(
        StreetPlan(xs=(), ys=(0.0,), bounds=(-36.0, -28.0, 36.0, 28.0)),
        (
            Drive("drive1_0830", 8.5, ((-31.0, 0.0), (31.0, 0.0)), 11),
            Drive("drive2_1830", 18.5, ((31.0, 0.0), (-31.0, 0.0)), 11),
        ),
        width=80,
        height=60,
        samples_edge=3,
        cars=3,
        points_per_image=24,
        suffix=".png",
    ),
    "hours": Preset(
        StreetPlan(xs=(), ys=(0.0,), bounds=(-36.0, -28.0, 36.0, 28.0)),
        tuple(
            Drive(f"drive_{round(100 * hour):04d}", hour, ((-31.0, 0.0), (31.0, 0.0)), 11)
            for hour in (7.0, 10.0, 13.0, 19.0)
        ),
        width=80,
        height=60,
        samples_edge=3,
        cars=3,
        points_per_image=24,
        suffix=".png",
    ),
    "passes": Preset(
        StreetPlan(xs=(), ys=(0.0,), bounds=(-36.0, -28.0, 36.0, 28.0)),
        (Drive("drive_1300", 13.0, ((-31.0, 0.0), (31.0, 0.0)), 9, passes=5),),
        width=80,
        height=60,
        samples_edge=3,
        cars=3,
        points_per_image=24,
        suffix=".png",
    ),
    "street": _STREET,
    "street_small": replace(_STREET, width=160, height=120, points_per_image=24, contrast=0.0),
    "city": Preset(
        StreetPlan(xs=(-60.0, 10.0, 80.0), ys=(-45.0, 25.0), bounds=(-120.0, -100.0, 140.0, 85.0)),
        (
            Drive("drive1_0730", 7.5, ((-114.0, 25.0), (134.0, 25.0)), 51),
            Drive("drive2_0930", 9.5, ((134.0, -45.0), (-114.0, -45.0)), 51),
            Drive("drive3_1130", 11.5, ((-60.0, -94.0), (-60.0, 25.0), (10.0, 25.0), (10.0, -94.0)), 63),
            Drive("drive4_1300", 13.0, ((80.0, 79.0), (80.0, -45.0), (10.0, -45.0), (10.0, 79.0)), 65),
            Drive("drive5_1530", 15.5, ((134.0, 25.0), (80.0, 25.0), (80.0, -94.0)), 35),
            Drive("drive6_1830", 18.5, ((-114.0, -45.0), (-60.0, -45.0), (-60.0, 79.0)), 35),
        ),
        width=192,
        height=128,
        samples_edge=3,
        cars=14,
        points_per_image=24,
        suffix=".jpg",
    ),
}
