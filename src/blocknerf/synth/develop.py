"""From light to bytes: exposure, a soft tone curve, sRGB."""

import numpy as np

MIDDLE = 0.32  # exposed radiance towards which a picture's geometric mean tends


def auto_exposure(radiance: np.ndarray, drive_exposure: float, rng: np.random.Generator) -> float:
    """The drive's exposure, pulled a third of the way towards a middle grey of this picture, with a slight jitter."""
    middle = float(np.exp(np.mean(np.log(radiance.mean(-1) + 1e-3))))
    adapted = drive_exposure * (MIDDLE / (drive_exposure * middle)) ** (1 / 3)
    return adapted * float(np.exp(rng.normal(0.0, 0.05)))


def develop(radiance: np.ndarray, exposure: float) -> np.ndarray:
    """Linear radiance [H, W, 3] -> uint8 sRGB [H, W, 3]."""
    x = radiance * exposure
    toned = 1 - np.exp(-x)  # bright skies roll off instead of clipping
    encoded = np.where(toned <= 0.0031308, 12.92 * toned, 1.055 * toned ** (1 / 2.4) - 0.055)
    return np.round(255 * encoded).astype(np.uint8)
