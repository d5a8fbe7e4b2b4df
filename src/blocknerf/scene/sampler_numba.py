"""The sampler's hot loops: permute, look up the image, gather colour and direction, turn into the world."""

import numpy as np

from blocknerf.kernels.jit.compiled import compiled
from blocknerf.kernels.jit.parallel_for import kernel, parallel_for, worker_body
from blocknerf.scene.radii_numba import pixel_radius

PATCH_TRIES = 64
PATCH_VALID_SHARE = 0.5
CONTEXT_EVERY = 16
"""Number of passes in which a pixel outside the wanted tiles is drawn once."""
LEAST_COSINE = np.float32(1e-2)
"""Nearer to 90 degrees from the optical axis, depth along it does not determine the distance."""


@compiled
def mix(x):
    """splitmix64's finaliser: every input bit moves every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@compiled
def num_bits(size):
    bits = 2
    while (1 << bits) < size:
        bits += 1
    return bits


@compiled
def permute(position, keys, size, bits):
    """The bijection of 0 ... size - 1 that `keys` name; 2^bits >= size.

    A Feistel network over 2^bits, walked until it lands inside (Black & Rogaway 2002, "Ciphers with arbitrary finite
    domains").
    """
    low_bits = np.uint64(bits // 2)
    low_mask = np.uint64((1 << (bits // 2)) - 1)
    high_mask = np.uint64((1 << (bits - bits // 2)) - 1)
    x = np.uint64(position)
    while True:
        low, high = x & low_mask, x >> low_bits
        for index in range(len(keys)):
            if index % 2 == 0:
                high = (high ^ mix(low ^ keys[index])) & high_mask
            else:
                low = (low ^ mix(high ^ keys[index])) & low_mask
        x = (high << low_bits) | low
        if x < np.uint64(size):
            return np.int64(x)


@compiled
def row_of(begin, value):
    """The row whose span begin[row] ... begin[row + 1] holds `value`."""
    low, high = 0, len(begin) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if begin[middle] <= value:
            low = middle
        else:
            high = middle
    return low


@compiled
def _is_due(pixel, epoch, width, height, tiles):
    size = tiles.shape[0]
    if tiles[pixel // width * size // height, pixel % width * size // width]:
        return True
    return mix(np.uint64(pixel)) % np.uint64(CONTEXT_EVERY) == np.uint64(epoch % CONTEXT_EVERY)


@compiled
def _is_central(pixel, width, height, central):
    """Whether the pixel lies in the middle `central` of the width and of the height."""
    x, y = pixel % width + 0.5, pixel // width + 0.5
    return abs(2 * x / width - 1) <= central and abs(2 * y / height - 1) <= central


@compiled
def may_be_drawn(within, place, row, epoch, width, height, valid, tiles, central):
    """Whether pixel `within` of image `row` (`place` of all) is drawn: not masked, in this pass, in the centre."""
    if len(valid) > 0 and valid[place] == 0:
        return False
    if len(tiles) > 0 and not _is_due(within, epoch, width[row], height[row], tiles[row]):
        return False
    return central >= 1 or _is_central(within, width[row], height[row], central)


@compiled
def draw(counter, keys, epoch, filled, begin, rgb_begin, width, height, valid, tiles, central, slots, flat):
    """Fills `slots` (rows of the table) and `flat` (rows of the level's rgb) from place `filled` on.

    `tiles` [rows, t, t], if not empty, marks pixels of every pass; the others come once in CONTEXT_EVERY passes.
    `central` below 1 skips pixels that are not in the middle of their image. Returns how many are filled and the
    counter after the last position examined.
    """
    size, bits = begin[-1], num_bits(begin[-1])
    while counter < size and filled < len(slots):
        pixel = permute(counter, keys, size, bits)
        counter += 1
        row = row_of(begin, pixel)
        within = pixel - begin[row]
        place = rgb_begin[row] + within
        if may_be_drawn(within, place, row, epoch, width, height, valid, tiles, central):
            slots[filled] = row
            flat[filled] = place
            filled += 1
    return filled, counter


@compiled
def draw_by_image(
    counter, keys, epoch, filled, begin, rgb_begin, width, height, valid, tiles, central, slots, flat, chunks, num_rays
):
    """As `draw`, but `num_rays` of one image after another; a position is a chunk of an image's shuffled pixels.

    `chunks` [rows + 1] is their running count. If pixels of a chunk may not be drawn, the following ones replace them.
    """
    num_chunks, chunk_bits = chunks[-1], num_bits(chunks[-1])
    while counter < num_chunks and filled < len(slots):
        chunk = permute(counter, keys, num_chunks, chunk_bits)
        counter += 1
        row = row_of(chunks, chunk)
        size = begin[row + 1] - begin[row]
        row_keys, bits = keys ^ mix(np.uint64(row + 1)), num_bits(size)
        first, end = (chunk - chunks[row]) * num_rays, min(filled + num_rays, len(slots))
        for offset in range(size):
            if filled == end:
                break
            within = permute((first + offset) % size, row_keys, size, bits)
            place = rgb_begin[row] + within
            if may_be_drawn(within, place, row, epoch, width, height, valid, tiles, central):
                slots[filled] = row
                flat[filled] = place
                filled += 1
    return filled, counter


@compiled
def draw_patches(key, first_patch, size, corners, rgb_begin, width, valid, slots, flat, patch_valid):
    area = size * size
    for patch in range(len(slots) // area):
        most_valid, best_row, best_corner = -1, 0, 0
        for attempt in range(PATCH_TRIES):
            number = np.uint64(first_patch + patch) * np.uint64(PATCH_TRIES) + np.uint64(attempt)
            place = np.int64(mix(mix(number) ^ key) % np.uint64(corners[-1]))
            row = row_of(corners, place)
            columns = width[row] - size + 1
            within = place - corners[row]
            corner = rgb_begin[row] + within // columns * width[row] + within % columns
            num_valid = area
            if len(valid) > 0:
                num_valid = 0
                for index in range(area):
                    num_valid += valid[corner + index // size * width[row] + index % size] != 0
            if num_valid > most_valid:
                most_valid, best_row, best_corner = num_valid, row, corner
            if num_valid >= PATCH_VALID_SHARE * area:
                break
        for index in range(area):
            place = best_corner + index // size * width[best_row] + index % size
            slots[patch * area + index] = best_row
            flat[patch * area + index] = place
            patch_valid[patch * area + index] = len(valid) == 0 or valid[place] != 0


@worker_body
def _gather_pixels(
    start,
    stop,
    slots,
    flat,
    places,
    directions_begin,
    width,
    height,
    world_from_cam,
    all_rgb,
    all_directions,
    all_offsets_m,
    all_depth_z_m,
    rgb_begin,
    origins,
    directions,
    radii,
    rgb,
    pixels_xy,
    distance_m,
):
    for ray in range(start, stop):
        row = slots[ray]
        pixel = flat[ray] - rgb_begin[row]
        pixels_xy[ray, 0] = pixel % width[row] + 0.5
        pixels_xy[ray, 1] = pixel // width[row] + 0.5
        ray_row = directions_begin[row] + pixel
        direction = all_directions[ray_row]
        radii[ray] = pixel_radius(all_directions, directions_begin[row], width[row], height[row], pixel)
        pose = world_from_cam[row]
        for axis in range(3):
            origins[ray, axis] = pose[axis, 3]
            directions[ray, axis] = (
                pose[axis, 0] * direction[0] + pose[axis, 1] * direction[1] + pose[axis, 2] * direction[2]
            )
            if len(all_offsets_m) > 0:
                for along in range(3):
                    origins[ray, axis] += pose[axis, along] * all_offsets_m[ray_row, along]
            rgb[ray, axis] = all_rgb[places[ray], axis] / np.float32(255)
        if len(all_depth_z_m) > 0:
            sees_forward = direction[2] > LEAST_COSINE
            distance_m[ray] = all_depth_z_m[places[ray]] / direction[2] if sees_forward else np.float32(0)


@kernel()
def gather_pixels(
    slots,
    flat,
    places,
    directions_begin,
    width,
    height,
    world_from_cam,
    all_rgb,
    all_directions,
    all_offsets_m,
    all_depth_z_m,
    rgb_begin,
    origins,
    directions,
    radii,
    rgb,
    pixels_xy,
    distance_m,
):
    """`places` are the rows of `all_rgb` and `all_depth_z_m` that hold the pixels `flat` of the level's files."""
    source = (directions_begin, width, height, world_from_cam, all_rgb, all_directions, all_offsets_m, all_depth_z_m)
    into = (origins, directions, radii, rgb, pixels_xy, distance_m)
    parallel_for(_gather_pixels, len(slots), (slots, flat, places, *source, rgb_begin, *into))
