"""numba kernels of splats: one after the other, front to back, over the rows of each splat's visible ellipse.

There are no lists of splats by tile: on a processor, a splat's pixels are contiguous in memory, nothing else writes to
them at the same time, and its gradient is summed in registers. The picture is cut into bands of rows for several
threads. The number of bands is fixed, and so is the order of all sums.
"""

import math

import numpy as np

from blocknerf.kernels.jit.compiled import compiled
from blocknerf.kernels.jit.fast_math import exp, whole_between
from blocknerf.kernels.jit.parallel_for import F1, F2, F3, kernel, parallel_for, worker_body
from blocknerf.kernels.splats.reference import LEAST_ALPHA, LEAST_TRANSMITTANCE, MOST_ALPHA

_BANDS = 4
_LEAST, _MOST, _DARK = np.float32(LEAST_ALPHA), np.float32(MOST_ALPHA), np.float32(LEAST_TRANSMITTANCE)
_HALF, _ONE = np.float32(0.5), np.float32(1)
_NEVER = np.float32(-1)


@compiled(kept=False, inline="always")
def _reach(conics, opacities, i):
    """2 ln(opacity / LEAST_ALPHA), the largest d^T C d at which the splat is visible, and its extent up and down."""
    if not opacities[i] >= _LEAST:
        return _NEVER, _NEVER
    reach = np.float32(2.0 * math.log(opacities[i] / _LEAST))
    determinant = conics[i, 0] * conics[i, 2] - conics[i, 1] * conics[i, 1]
    return reach, np.float32(math.sqrt(max(reach * conics[i, 0] / max(determinant, np.float32(1e-20)), 0.0)))


@compiled(kept=False, inline="always")
def _rows(center_y, rise, first, end):
    """Rows from `first` to `end` whose middles are within `rise` of the centre."""
    low = whole_between(np.ceil(np.float64(center_y - rise) - 0.5), first, end)
    high = whole_between(np.floor(np.float64(center_y + rise) - 0.5) + 1.0, low, end)
    return low, high


@compiled(kept=False, inline="always")
def _span(center_x, conics, reach, dy, i, width):
    """Columns of the row at `dy` in which d^T C d <= reach."""
    xx, xy, yy = np.float64(conics[i, 0]), np.float64(conics[i, 1]), np.float64(conics[i, 2])
    root = xy * xy * dy * dy - xx * (yy * dy * dy - reach)
    if root < 0:
        return np.int64(0), np.int64(0)
    half = math.sqrt(root) / xx
    middle = center_x - xy * dy / xx
    low = whole_between(np.ceil(middle - half - 0.5), 0, width)
    high = whole_between(np.floor(middle + half - 0.5) + 1.0, low, width)
    return low, high


@worker_body
def _forward(start, stop, left, centers_xy, conics, rgb, opacities, out):
    splats = len(centers_xy)
    _, height, width = out.shape
    for band in range(start, stop):
        first, end = band * height // _BANDS, (band + 1) * height // _BANDS
        for i in range(splats):
            reach, rise = _reach(conics, opacities, i)
            if reach < 0:
                continue
            cx, cy, opacity = centers_xy[i, 0], centers_xy[i, 1], opacities[i]
            xx, xy, yy = conics[i, 0], conics[i, 1], conics[i, 2]
            red, green, blue = rgb[i, 0], rgb[i, 1], rgb[i, 2]
            low, high = _rows(cy, rise, first, end)
            for y in range(low, high):
                dy = np.float32(y) + _HALF - cy
                left_x, right_x = _span(cx, conics, reach, dy, i, width)
                for x in range(left_x, right_x):
                    t = left[y, x]
                    dx = np.float32(x) + _HALF - cx
                    alpha = min(opacity * exp(-_HALF * (xx * dx * dx + yy * dy * dy) - xy * dx * dy), _MOST)
                    weight = alpha * t if (alpha >= _LEAST) & (t >= _DARK) else np.float32(0)
                    out[0, y, x] += weight * red
                    out[1, y, x] += weight * green
                    out[2, y, x] += weight * blue
                    out[3, y, x] += weight
                    left[y, x] = t - weight


@kernel(F2, F2, F2, F1, F3)
def forward(centers_xy, conics, rgb, opacities, out):
    left = np.ones(out.shape[1:], np.float32)
    parallel_for(_forward, _BANDS, (left, centers_xy, conics, rgb, opacities, out))


@worker_body
def _backward(start, stop, left, behind, centers_xy, conics, rgb, opacities, out, grad_out, parts):
    splats = len(centers_xy)
    _, height, width = out.shape
    for band in range(start, stop):
        first, end = band * height // _BANDS, (band + 1) * height // _BANDS
        for y in range(first, end):
            for x in range(width):
                total = grad_out[3, y, x] * out[3, y, x]
                for c in range(3):
                    total += grad_out[c, y, x] * out[c, y, x]
                behind[y, x] = total
        for i in range(splats):
            reach, rise = _reach(conics, opacities, i)
            if reach < 0:
                continue
            cx, cy, opacity = centers_xy[i, 0], centers_xy[i, 1], opacities[i]
            xx, xy, yy = conics[i, 0], conics[i, 1], conics[i, 2]
            red, green, blue = rgb[i, 0], rgb[i, 1], rgb[i, 2]
            low, high = _rows(cy, rise, first, end)
            d_x = d_y = d_xx = d_xy = d_yy = d_red = d_green = d_blue = d_opacity = np.float32(0)
            for y in range(low, high):
                dy = np.float32(y) + _HALF - cy
                left_x, right_x = _span(cx, conics, reach, dy, i, width)
                for x in range(left_x, right_x):
                    t = left[y, x]
                    dx = np.float32(x) + _HALF - cx
                    fall = exp(-_HALF * (xx * dx * dx + yy * dy * dy) - xy * dx * dy)
                    alpha = min(opacity * fall, _MOST)
                    shows = (alpha >= _LEAST) & (t >= _DARK)
                    weight = alpha * t if shows else np.float32(0)
                    g0, g1, g2 = grad_out[0, y, x], grad_out[1, y, x], grad_out[2, y, x]
                    grad_weight = red * g0 + green * g1 + blue * g2 + grad_out[3, y, x]
                    rest = behind[y, x] - weight * grad_weight
                    d_red += weight * g0
                    d_green += weight * g1
                    d_blue += weight * g2
                    d_alpha = (
                        t * grad_weight - rest / (_ONE - alpha) if shows & (opacity * fall < _MOST) else np.float32(0)
                    )
                    d_opacity += d_alpha * fall
                    d_power = d_alpha * alpha
                    d_x += d_power * (xx * dx + xy * dy)
                    d_y += d_power * (yy * dy + xy * dx)
                    d_xx -= d_power * _HALF * dx * dx
                    d_xy -= d_power * dx * dy
                    d_yy -= d_power * _HALF * dy * dy
                    behind[y, x] = rest
                    left[y, x] = t - weight
            parts[band, i, 0], parts[band, i, 1] = d_x, d_y
            parts[band, i, 2], parts[band, i, 3], parts[band, i, 4] = d_xx, d_xy, d_yy
            parts[band, i, 5], parts[band, i, 6], parts[band, i, 7] = d_red, d_green, d_blue
            parts[band, i, 8] = d_opacity


@kernel(F2, F2, F2, F1, F3, F3, F2)
def backward(centers_xy, conics, rgb, opacities, out, grad_out, grads):
    """grads: [splats, 9], of centre, conic, colour, opacity.

    With g the pixel's gradient and c a splat's colour (and 1 for opacity), d / d alpha_i = T_i c_i . g minus the part
    behind, (sum over j > i of w_j c_j . g) / (1 - alpha_i). That sum is the whole pixel's minus the part in front.
    """
    left = np.ones(out.shape[1:], np.float32)
    behind = np.empty(out.shape[1:], np.float32)
    parts = np.zeros((_BANDS, *grads.shape), np.float32)
    parallel_for(_backward, _BANDS, (left, behind, centers_xy, conics, rgb, opacities, out, grad_out, parts))
    for band in range(_BANDS):
        grads += parts[band]
