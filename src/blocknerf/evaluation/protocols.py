"""Named, versioned ways to measure test images: the only place that defines the meaning of a figure.

A protocol's version goes up whenever the same city would get another figure under it.
"""

import difflib
from dataclasses import dataclass
from typing import Literal, NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.core.errors import UserError

Codes = Literal["mean", "neighbours"]
ALL = "all"


@dataclass(frozen=True, slots=True)
class EvaluationProtocol:
    """How a test image is rendered, which of its pixels are scored, and which may be used before."""

    name: str
    version: int
    sees: str
    meaning: str
    scored: Literal["all", "valid", "right half"] = "valid"
    codes: Codes = "mean"
    poses: Literal["given", "learned", "refined"] = "given"
    fits_codes: bool = False
    corrects_colours: bool = False
    optimistic: bool = False


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        EvaluationProtocol(
            "plain",
            1,
            sees="nothing",
            meaning="mean code of the drive; every pixel that the lens reaches, those that a mask hides included",
            scored="all",
        ),
        EvaluationProtocol("masked", 1, sees="nothing", meaning="mean code of the drive; pixels that the mask keeps"),
        EvaluationProtocol(
            "neighbour",
            1,
            sees="nothing",
            meaning="code between those of the training images before and after it on its trajectory, linear in time, "
            "or in the numbers of names; mean code of the drive without such an order; pixels that the mask keeps",
            codes="neighbours",
        ),
        EvaluationProtocol(
            "half_image",
            1,
            sees="left half",
            meaning="each block's code fitted to the left half with all else frozen, 100 steps, fixed seed; "
            "pixels of the right half that the mask keeps",
            scored="right half",
            fits_codes=True,
        ),
        EvaluationProtocol(
            "colour_corrected",
            1,
            sees="every pixel",
            meaning="mean code of the drive, then the affine map of colours that fits the photograph best; pixels "
            "that the mask keeps. Optimistic: no user has the photograph that the colours are corrected by",
            corrects_colours=True,
            optimistic=True,
        ),
        EvaluationProtocol(
            "learned_poses",
            1,
            sees="nothing",
            meaning="each block's camera moved as pose refinement moved the training images of its drive, or of its "
            "segment of it; mean code of the drive; pixels that the mask keeps",
            poses="learned",
        ),
        EvaluationProtocol(
            "refined_poses",
            1,
            sees="left half",
            meaning="each block's camera, then its code, fitted to the left half with all else frozen, 100 steps each, "
            "fixed seed; pixels of the right half that the mask keeps",
            scored="right half",
            poses="refined",
            fits_codes=True,
        ),
    )
}


def parse_protocols(text: str) -> tuple[EvaluationProtocol, ...]:
    """Protocols by name, separated by commas, each once, in the order of PROTOCOLS; ALL stands for each of them.

    Raises UserError for others.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in (*PROTOCOLS, ALL):
            near = difflib.get_close_matches(name, PROTOCOLS, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UserError(f"There is no protocol {name!r}.{hint} There are: {', '.join((*PROTOCOLS, ALL))}.")
    if not names:
        raise UserError(f"No protocol was named. There are: {', '.join((*PROTOCOLS, ALL))}.")
    return tuple(protocol for name, protocol in PROTOCOLS.items() if name in names or ALL in names)


def default_protocols(masked: bool, has_codes: bool, has_order: bool) -> tuple[EvaluationProtocol, ...]:
    """Those that cost one rendering and can differ: by a mask if one hides anything, by codes between neighbours if
    there are codes, and an order of images."""
    can_differ = {"plain": True, "masked": masked, "neighbour": has_codes and has_order}
    return tuple(PROTOCOLS[name] for name, differs in can_differ.items() if differs)


class Scored(NamedTuple):
    """What a protocol compares: a rendered picture, the photograph, and which of their pixels count."""

    render: Float[Tensor, "h w 3"]
    truth: Float[Tensor, "h w 3"]
    counts: Bool[Tensor, "h w"]


def scored(
    protocol: EvaluationProtocol,
    render: Float[Tensor, "h w 3"],
    truth: Float[Tensor, "h w 3"],
    valid: Bool[Tensor, "h w"],
    reached: Bool[Tensor, "h w"],
) -> Scored:
    """The part of `render` that the protocol measures.

    `valid` are the pixels that mask and lens leave, `reached` those that the lens leaves. The right half is cut out, so
    that no SSIM window reaches into the fitted half.
    """
    counts = reached if protocol.scored == "all" else valid
    if protocol.scored != "right half":
        return Scored(render, truth, counts)
    right = truth.shape[1] // 2
    return Scored(render[:, right:], truth[:, right:], counts[:, right:])


def left_half(valid: Bool[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """The valid pixels left of the middle: those that a fit may use, disjoint from those that are scored."""
    left = valid.clone()
    left[:, valid.shape[1] // 2 :] = False
    return left
