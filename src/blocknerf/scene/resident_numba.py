"""The hot loop of sampling from pieces in memory: which pixel of which piece is next, and its colour."""

import numpy as np

from blocknerf.kernels.jit.compiled import compiled
from blocknerf.scene.sampler_numba import may_be_drawn, mix, num_bits, permute, row_of


@compiled
def shares_begin(pieces, rounds, ages, piece_begin, shares, stays):
    """[window + 1] running count of the pixels that each resident piece gives in this stage.

    A piece of n pixels gives them all, in the order of its own bijection, in `shares` stays of `stays` stages each.
    """
    begin = np.zeros(len(pieces) + 1, np.int64)
    for index in range(len(pieces)):
        size = piece_begin[pieces[index] + 1] - piece_begin[pieces[index]]
        part = rounds[index] * stays + ages[index]
        begin[index + 1] = begin[index] + size * (part + 1) // (shares * stays) - size * part // (shares * stays)
    return begin


@compiled
def draw_resident(
    counter,
    stage_keys,
    filled,
    given,
    pieces,
    rounds,
    ages,
    epochs,
    slots_of,
    keys,
    piece_begin,
    shares,
    stays,
    begin,
    rgb_begin,
    width,
    height,
    tiles,
    central,
    held_rgb,
    held_valid,
    held_depth,
    slots,
    flat,
    rgb,
    depth_z_m,
):
    """As `draw`, from the pixels that resident pieces give in a stage (`given`: see `shares_begin`), shuffled.

    `held_*` [slots, pixels, ...] are the pieces in memory, `slots_of` says where; `keys` [2, rounds] are those of two
    passes and `epochs` says which a piece is in. Copies what was drawn to `rgb` (uint8) and `depth_z_m`.
    """
    total, bits = given[-1], num_bits(max(given[-1], 2))
    while counter < total and filled < len(slots):
        number = permute(counter, stage_keys, total, bits)
        counter += 1
        index = row_of(given, number)
        piece, epoch = pieces[index], epochs[index]
        first, size = piece_begin[piece], piece_begin[piece + 1] - piece_begin[piece]
        part = rounds[index] * stays + ages[index]
        position = size * part // (shares * stays) + number - given[index]
        piece_keys = keys[epoch % 2] ^ mix(np.uint64(piece + 1))
        offset = permute(position, piece_keys, size, num_bits(size))
        row = row_of(begin, first + offset)
        within = first + offset - begin[row]
        slot = slots_of[index]
        if may_be_drawn(within, offset, row, epoch, width, height, held_valid[slot], tiles, central):
            slots[filled] = row
            flat[filled] = rgb_begin[row] + within
            rgb[filled] = held_rgb[slot, offset]
            if len(depth_z_m) > 0:
                depth_z_m[filled] = held_depth[slot, offset]
            filled += 1
    return filled, counter
