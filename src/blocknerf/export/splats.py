"""Gaussian splats as arrays, and their transformation: the content of PLY and SPZ files of any origin."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int

from blocknerf.geometry.harmonics import BAND_0, harmonics_turn, num_harmonics
from blocknerf.geometry.similarity import Similarity
from blocknerf.geometry.so3 import to_quaternion


@dataclass(frozen=True, slots=True)
class Splats:
    """Gaussians with colour (Kerbl et al. 2023, section 4): standard deviations exp(`log_scales`) along turned axes.

    `quaternions` are (w, x, y, z), of any length but zero. Opacity is the sigmoid of `opacity_logits`. Colour in
    direction d (from the camera to the splat) is 1/2 + h(d) . `harmonics`, band after band.
    """

    means: Float32[np.ndarray, "n 3"]
    log_scales: Float32[np.ndarray, "n 3"]
    quaternions: Float32[np.ndarray, "n 4"]
    opacity_logits: Float32[np.ndarray, " n"]
    harmonics: Float32[np.ndarray, "n functions 3"]

    def __len__(self) -> int:
        return len(self.means)

    def __getitem__(self, rows: Bool[np.ndarray, " n"] | Int[np.ndarray, " rows"] | slice) -> "Splats":
        return Splats(*(getattr(self, name)[rows] for name in Splats.__slots__))

    @property
    def degree(self) -> int:
        return int(round(self.harmonics.shape[1] ** 0.5)) - 1

    @property
    def mean_rgb(self) -> Float32[np.ndarray, "n 3"]:
        """The mean over all directions: band 0."""
        return (0.5 + BAND_0 * self.harmonics[:, 0]).astype(np.float32)

    @property
    def opacities(self) -> Float32[np.ndarray, " n"]:
        with np.errstate(over="ignore"):
            return (1 / (1 + np.exp(-self.opacity_logits))).astype(np.float32)

    def of_degree(self, degree: int) -> "Splats":
        """The same colours with bands up to `degree`; higher bands are cut off, missing ones are zero."""
        wanted = num_harmonics(degree)
        kept = self.harmonics[:, :wanted]
        missing = np.zeros((len(self), wanted - kept.shape[1], 3), np.float32)
        return replace(self, harmonics=np.concatenate([kept, missing], axis=1))

    @staticmethod
    def concatenate(parts: "Sequence[Splats]") -> "Splats":
        """All of them together, with as many bands as the part that has most."""
        degree = max(part.degree for part in parts)
        same = [part.of_degree(degree) for part in parts]
        return Splats(*(np.concatenate([getattr(part, name) for part in same]) for name in Splats.__slots__))


def transformed(splats: Splats, motion: Similarity) -> Splats:
    """The splats as seen in the world after `motion`: places, sizes, axes, and colours that turn along."""
    rotation = torch.from_numpy(np.array(motion.rotation, np.float64))
    turn = harmonics_turn(rotation, splats.degree).numpy()
    return Splats(
        motion.points(splats.means.astype(np.float64)).astype(np.float32),
        splats.log_scales + np.float32(np.log(motion.scale)),
        _product(to_quaternion(rotation).numpy(), splats.quaternions).astype(np.float32),
        splats.opacity_logits,
        np.einsum("ij,njc->nic", turn, splats.harmonics).astype(np.float32),
    )


def _product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Hamilton's product of one quaternion with many: first `right` turns, then `left`."""
    w, v = left[0], left[1:]
    scalar = w * right[:, :1] - right[:, 1:] @ v[:, None]
    vector = w * right[:, 1:] + right[:, :1] * v + np.cross(np.broadcast_to(v, right[:, 1:].shape), right[:, 1:])
    return np.concatenate([scalar, vector], axis=1)
