"""Splats drawn by chance."""

import numpy as np

from blocknerf.export.splats import Splats


def made_splats(count: int, degree: int = 3, seed: int = 0) -> Splats:
    """Within 20 m of the origin, centimetres to metres large, with colours that files hold."""
    rng = np.random.default_rng(seed)
    quaternions = rng.normal(size=(count, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    harmonics = rng.uniform(-0.9, 0.9, (count, (degree + 1) ** 2, 3))
    harmonics[:, 0] *= 3
    return Splats(
        rng.uniform(-20, 20, (count, 3)).astype(np.float32),
        rng.uniform(-5, 1, (count, 3)).astype(np.float32),
        quaternions.astype(np.float32),
        rng.uniform(-4, 4, count).astype(np.float32),
        harmonics.astype(np.float32),
    )
