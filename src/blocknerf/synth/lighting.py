"""Sun and sky by the hour of the day."""

from dataclasses import dataclass

import numpy as np

from blocknerf.synth.noise import fractal_noise

SUNRISE_H, SUNSET_H = 6.0, 20.0


@dataclass(frozen=True, slots=True)
class Lighting:
    """Linear light. `sun` is the irradiance of a surface that faces the sun; the others are radiances."""

    hour: float
    sun_direction: np.ndarray  # [3] unit, towards the sun
    sun: np.ndarray  # [3]
    zenith: np.ndarray  # [3]
    horizon: np.ndarray  # [3]
    bounce: np.ndarray  # [3] light from the ground and the walls around
    window_glow: float  # lamps behind windows, 0 by day


def lighting_at(hour: float) -> Lighting:
    """The sun rises in the east at 6 h, is in the south at 13 h, 56 degrees high, and sets in the west at 20 h."""
    day = np.clip((hour - SUNRISE_H) / (SUNSET_H - SUNRISE_H), 0.0, 1.0)
    elevation_rad = np.deg2rad(56.0) * np.sin(np.pi * day) + np.deg2rad(2.0)
    azimuth_rad = np.deg2rad(80.0 + 200.0 * day)  # clockwise from north
    sun_direction = np.array(
        [
            np.cos(elevation_rad) * np.sin(azimuth_rad),
            np.cos(elevation_rad) * np.cos(azimuth_rad),
            np.sin(elevation_rad),
        ]
    )
    height = np.sin(elevation_rad)
    redness = np.exp(-2.6 * height)  # the lower the sun, the more air its light has crossed
    sun = 4.5 * (1 - 0.6 * redness) * np.array([1.0, 0.95 - 0.45 * redness, 0.86 - 0.72 * redness])
    zenith = (0.15 + 0.85 * height**0.5) * np.array([0.10, 0.22, 0.50])
    blue_haze, red_haze = np.array([0.40, 0.55, 0.72]), np.array([0.95, 0.52, 0.28])
    horizon = (0.25 + 0.75 * height**0.5) * ((1 - redness) * blue_haze + redness * red_haze)
    bounce = 0.10 * sun * height + 0.10 * zenith + 0.06 * horizon
    glow = float(np.clip((hour - 17.5) / 1.5, 0.0, 1.0) + np.clip((7.0 - hour) / 1.0, 0.0, 1.0))
    return Lighting(hour, sun_direction, sun, zenith, horizon, bounce, glow)


def sky(light: Lighting, directions: np.ndarray, with_clouds: bool = True) -> np.ndarray:
    """Radiance of the sky along unit directions [N, 3] -> [N, 3]."""
    up = np.clip(directions[:, 2:], 0.0, 1.0)
    colour = light.horizon + (light.zenith - light.horizon) * up**0.45
    towards_sun = np.clip(directions @ light.sun_direction, 0.0, 1.0)[:, None]
    colour = colour + 0.10 * light.sun * towards_sun**24
    if with_clouds:
        cover = _cloud_cover(light, directions)[:, None]
        cloud = 0.20 * light.sun * (0.6 + 0.4 * towards_sun) + 0.5 * light.horizon
        colour = colour + cover * (cloud - colour)
    return colour.astype(np.float32)


def _cloud_cover(light: Lighting, directions: np.ndarray) -> np.ndarray:
    """Clouds on a plane high above; they drift with the hour and thin out towards the horizon."""
    up = np.maximum(directions[:, 2], 0.02)
    x = directions[:, 0] / up + 3.7 * light.hour
    y = directions[:, 1] / up + 1.3 * light.hour
    density = fractal_noise(x, y, 1.6, 5, 0.02 / up)
    return 0.85 * np.clip(2.2 * density - 0.3, 0.0, 1.0) * np.clip((up - 0.06) / 0.25, 0.0, 1.0)
