"""Traces one picture: rays through pixels, the surfaces that they hit, and the light on them."""

from dataclasses import dataclass

import numpy as np

from blocknerf.core.camera import Camera
from blocknerf.core.extras import Extra
from blocknerf.synth.geometry import Material, Mesh
from blocknerf.synth.lighting import Lighting, sky
from blocknerf.synth.materials import albedo, surface_at, window_glow

mesh_construction = Extra("embreex.mesh_construction", "demo", "The synthetic city")
rtcore_scene = Extra("embreex.rtcore_scene", "demo", "The synthetic city")
SUN_RADIUS_RAD = 0.012  # a little larger than the real one: shadows soften with distance
HAZE_M = 900.0
_SURFACE_OFFSET_M = 2e-3


@dataclass(frozen=True, slots=True)
class Picture:
    """`depth_z_m` is the depth along the optical axis to the first surface at the pixel's centre; 0 is sky."""

    radiance: np.ndarray  # [H, W, 3] float32, linear
    depth_z_m: np.ndarray  # [H, W] float32
    moving: np.ndarray  # [H, W] bool: any sample of the pixel hit a moving car


class Tracer:
    """A mesh in Embree. Triangles from `first_moving` belong to moving objects."""

    def __init__(self, mesh: Mesh, first_moving: int):
        self.mesh = mesh
        self.first_moving = first_moving
        self._scene = rtcore_scene.EmbreeScene()
        self._triangles = mesh_construction.TriangleMesh(self._scene, mesh.triangles)

    def first_hits(self, origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Triangle [N] (-1: none) and distance [N] in metres along unit directions [N, 3]."""
        hits = self._scene.run(origins, directions, output=True)
        return hits["primID"], hits["tfar"]

    def reaches(self, origins: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Whether nothing is between points [N, 3] and infinity along one direction."""
        directions = np.ascontiguousarray(np.broadcast_to(direction.astype(np.float32), origins.shape))
        return self._scene.run(origins, directions, query="OCCLUDED") < 0


def render_image(
    tracer: Tracer,
    camera: Camera,
    world_from_cam: np.ndarray,
    light: Lighting,
    samples_edge: int,
    contrast: float = 0.0,
) -> Picture:
    """Pixels are means of samples_edge^2 samples on a regular grid (odd, so that one is the centre).

    Each sample uses another point of the sun's disk and another direction of the sky. So shadows are soft and corners
    dark, without noise, because every pixel uses the same set. With a `contrast` above 0, only pixels at the edge of a
    surface, or where the light on it changes by at least this contrast, have all samples; the others have one. 0 to 1,
    as in Mitchell, "Generating antialiased images at low sampling densities", SIGGRAPH 1987.
    """
    if samples_edge % 2 == 0:
        raise ValueError(f"samples_edge is {samples_edge}; it must be odd.")
    shape = camera.height, camera.width
    center = world_from_cam[:, 3]
    pixels = np.arange(camera.height * camera.width)
    directions = _pixel_directions(camera, world_from_cam, pixels, np.array([0.5, 0.5]))
    triangle, distance_m = _first_hits_from(tracer, center, directions)
    depth_z_m = np.where(triangle >= 0, distance_m * (directions @ world_from_cam[:, 2]), 0.0)
    moving = triangle >= tracer.first_moving
    radiance = np.zeros((len(pixels), 3), np.float32)
    if contrast > 0:
        radiance, pixels = _one_sample_each(
            tracer, camera, center, directions, triangle, distance_m, light, samples_edge, contrast
        )
    radiance[pixels] = 0.0
    count = samples_edge**2
    for number in range(count):
        row, column = divmod(number, samples_edge)
        offset = (np.array([column, row]) + 0.5) / samples_edge
        directions = _pixel_directions(camera, world_from_cam, pixels, offset)
        triangle, distance_m = _first_hits_from(tracer, center, directions)
        lights = _LightSample(light, number, count)
        sample_rad = _sample_rad(camera, samples_edge)
        radiance[pixels] += _arriving(tracer, center, directions, triangle, distance_m, lights, sample_rad) / count
        moving[pixels] |= triangle >= tracer.first_moving
    return Picture(radiance.reshape(*shape, 3), depth_z_m.astype(np.float32).reshape(shape), moving.reshape(shape))


def _one_sample_each(
    tracer,
    camera: Camera,
    center,
    directions,
    triangle,
    distance_m,
    light: Lighting,
    samples_edge: int,
    contrast: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Radiance [H * W, 3] along the rays through the centres, and the pixels [N] for which this is too little.

    Neighbours use different points of the sun and directions of the sky, so that every window of samples_edge^2 pixels
    has all of them. Their mean is what each pixel would have with all samples, unless the light changes in the window
    (Keller and Heidrich, "Interleaved sampling", 2001).
    """
    shape = camera.height, camera.width
    count = samples_edge**2
    row, column = np.divmod(np.arange(len(directions)), camera.width)
    number = row % samples_edge * samples_edge + column % samples_edge
    hit = triangle >= 0
    reflectance, irradiance, emitted = (np.zeros_like(directions) for _ in range(3))
    for one in range(count):
        chosen = np.flatnonzero(hit & (number == one))
        lights = _LightSample(light, one, count)
        reflectance[chosen], irradiance[chosen], emitted[chosen] = _at_surfaces(
            tracer, center, directions[chosen], triangle[chosen], distance_m[chosen], lights, 0.8 / camera.params[0]
        )
    mean = _over_windows(np.add, irradiance.reshape(*shape, 3), samples_edge) / np.float32(count)
    radiance = np.empty_like(directions)
    radiance[~hit] = sky(light, directions[~hit])
    radiance[hit] = _through_air((reflectance * mean.reshape(-1, 3) + emitted)[hit], distance_m[hit], light)
    patch = np.where(hit, tracer.mesh.patch_of[triangle], -1).reshape(shape)
    moving = _over_windows(np.maximum, triangle.reshape(shape), samples_edge) >= tracer.first_moving
    edge = _over_windows(np.maximum, patch, samples_edge) != _over_windows(np.minimum, patch, samples_edge)
    edge |= (patch >= 0) & _varies(mean, samples_edge, contrast)
    edge &= moving | _varies(radiance.reshape(*shape, 3), samples_edge, contrast)
    return radiance, np.flatnonzero(edge)


def _varies(image: np.ndarray, edge: int, contrast: float) -> np.ndarray:
    """Whether the contrast of an image [H, W, 3] around a pixel, (high - low) / (high + low), is at least this."""
    high, low = (_over_windows(extreme, image, edge) for extreme in (np.maximum, np.minimum))
    return np.any(high - low >= contrast * (high + low), axis=-1)


def _over_windows(reduce: np.ufunc, image: np.ndarray, edge: int) -> np.ndarray:
    """`reduce` over the edge x edge pixels around each pixel; at the border, those of the next whole window."""
    for axis in (0, 1):
        size = image.shape[axis] - edge + 1
        along = (slice(None),) * axis
        parts = [image[*along, first : first + size] for first in range(edge)]
        margin = [(0, 0)] * image.ndim
        margin[axis] = (edge // 2, edge // 2)
        total = parts[0]
        for part in parts[1:]:
            total = reduce(total, part)
        image = np.pad(total, margin, mode="edge")
    return image


class _LightSample:
    """Sample `number` of `count`: one point of the sun and one direction of the sky."""

    def __init__(self, light: Lighting, number: int, count: int):
        golden = np.pi * (3 - np.sqrt(5.0))
        self.light = light
        up = (number + 0.5) / count
        side = np.sqrt(1 - up * up)
        self.sky_direction = np.array([side * np.cos(golden * number), side * np.sin(golden * number), up])
        radius = SUN_RADIUS_RAD * np.sqrt((number + 0.5) / count)
        across = np.cross(light.sun_direction, (0.0, 0.0, 1.0))
        across /= np.linalg.norm(across)
        over = np.cross(across, light.sun_direction)
        sun = light.sun_direction + radius * (np.cos(golden * number) * across + np.sin(golden * number) * over)
        self.sun_direction = sun / np.linalg.norm(sun)
        sky_radiance = sky(light, self.sky_direction[None], with_clouds=False)[0]
        self.colours = np.stack([light.sun / np.pi, sky_radiance, light.bounce]).astype(np.float32)


def _sample_rad(camera: Camera, samples_edge: int) -> float:
    return 1.2 / camera.params[0] / samples_edge


def _pixel_directions(camera: Camera, world_from_cam: np.ndarray, pixels: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Unit directions [N, 3] through one point (x, y in [0, 1]) of each of `pixels` [N], counted row by row."""
    fx, fy, cx, cy = camera.params
    row, column = np.divmod(pixels, camera.width)
    x, y = (column + offset[0] - cx) / fx, (row + offset[1] - cy) / fy
    directions = np.stack([x, y, np.ones(len(pixels))], -1) @ world_from_cam[:, :3].T
    return (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)


def _first_hits_from(tracer: Tracer, center: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    origins = np.ascontiguousarray(np.broadcast_to(center.astype(np.float32), directions.shape))
    return tracer.first_hits(origins, directions)


def _arriving(tracer, center, directions, triangle, distance_m, lights: _LightSample, sample_rad: float) -> np.ndarray:
    """Radiance [N, 3] along rays with known first hits."""
    out = np.empty_like(directions)
    missed = triangle < 0
    out[missed] = sky(lights.light, directions[missed])
    hit = np.flatnonzero(~missed)
    if len(hit):
        reflectance, irradiance, emitted = _at_surfaces(
            tracer, center, np.take(directions, hit, axis=0), triangle[hit], distance_m[hit], lights, sample_rad
        )
        out[hit] = _through_air(reflectance * irradiance + emitted, distance_m[hit], lights.light)
    return out


def _through_air(radiance: np.ndarray, distance_m: np.ndarray, light: Lighting) -> np.ndarray:
    """Radiance [N, 3] after a way through haze."""
    clear = np.exp(-distance_m[:, None] / HAZE_M)
    return radiance.astype(np.float32) * clear + light.horizon.astype(np.float32) * (1 - clear)


def _at_surfaces(
    tracer, center, directions, triangle, distance_m, lights: _LightSample, sample_rad: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray | float]:
    """Albedo [N, 3], irradiance over pi [N, 3] and emitted radiance [N, 3] where rays hit surfaces."""
    mesh, light = tracer.mesh, lights.light
    points = center.astype(np.float32) + distance_m[:, None] * directions
    patch = mesh.patch_of[triangle]
    materials = mesh.material[patch]
    normals = _shading_normals(mesh, triangle, patch, materials, points)
    facing = -np.einsum("nc,nc->n", normals, directions)
    normals = np.where(facing[:, None] < 0, -normals, normals)
    footprint_m = distance_m * np.float32(sample_rad) / np.sqrt(np.clip(np.abs(facing), 0.05, 1.0))
    surface = surface_at(mesh, patch, points, footprint_m)

    above = points + np.float32(_SURFACE_OFFSET_M) * normals
    sun_share = _unblocked_cosine(tracer, above, normals, lights.sun_direction)
    sky_share = 2.0 * _unblocked_cosine(tracer, above, normals, lights.sky_direction)
    bounce_share = 0.35 + 0.65 * (0.5 - 0.5 * normals[:, 2])
    irradiance = np.stack([sun_share, sky_share, bounce_share], 1) @ lights.colours
    emitted = 0.25 * light.window_glow * window_glow(materials, surface) if light.window_glow > 0 else 0.0
    return albedo(materials, surface), irradiance, emitted


def _shading_normals(mesh: Mesh, triangle, patch, materials, points: np.ndarray) -> np.ndarray:
    """Normals of the triangles, but smooth ones for the crowns of trees."""
    normals = np.take(mesh.normals, triangle, axis=0)
    leaves = np.flatnonzero(materials == Material.LEAVES)
    outward = points[leaves] - mesh.origin[patch[leaves]]
    normals[leaves] = outward / np.linalg.norm(outward, axis=1, keepdims=True)
    return normals


def _unblocked_cosine(tracer: Tracer, above: np.ndarray, normals: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Cosine to a distant light; 0 if it is behind the surface or hidden."""
    cosine = normals @ direction.astype(np.float32)
    towards = np.flatnonzero(cosine > 0)
    share = np.zeros_like(cosine)
    if len(towards):
        share[towards] = cosine[towards] * tracer.reaches(np.take(above, towards, axis=0), direction)
    return share
