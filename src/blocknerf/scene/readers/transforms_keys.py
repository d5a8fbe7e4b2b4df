"""The keys of transforms.json, in the dialects of instant-ngp, nerfstudio and NeRF's synthetic scenes.

Each is read, or has no effect here, or is named once as ignored; unknown keys are named, too.
"""

from collections import Counter
from pathlib import Path
from typing import Any

from blocknerf.core.errors import UserError, listed, quote
from blocknerf.core.logging import log

NUMBERS = (
    *("w", "h", "fl_x", "fl_y", "cx", "cy", "camera_angle_x", "camera_angle_y", "x_fov", "y_fov"),
    *("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2"),
    *("ftheta_p0", "ftheta_p1", "ftheta_p2", "ftheta_p3", "ftheta_p4"),
)
"""At the top or in a frame."""
_READ_ANYWHERE = (*NUMBERS, "camera_model", "is_fisheye", "latlong", "equirectangular", "distortion_params")
_READ_AT_THE_TOP = (
    *("frames", "ply_file_path", "train_filenames", "val_filenames", "test_filenames", "normal_mts_args"),
    *("integer_depth_scale", "depth_unit_scale_factor", "rolling_shutter"),
)
_READ_IN_FRAMES = (
    *("file_path", "transform_matrix", "transform_matrix_start", "transform_matrix_end", "exposure", "rolling_shutter"),
    *("mask_path", "depth_file_path", "depth_path"),
)
_WITHOUT_EFFECT = (
    # where another trainer puts the scene in its cube; blocknerf keeps the file's units and frame
    *("aabb", "aabb_scale", "render_aabb", "scale", "offset", "up", "scene_scale", "scene_box", "orientation_override"),
    *("auto_scale_poses_override", "applied_transform", "applied_scale"),
    # what was done to poses or pictures before, or how another program is to learn
    *(
        "sharpness",
        "sharpness_discard_threshold",
        "colmap_im_id",
        "colmap_image_id",
        "rotation",
        "n_extra_learnable_dims",
    ),
    *("importance_sampling", "enable_depth_loading", "fps", "timestamp", "blur_score", "camera_label", "description"),
)


def name_others(path: Path, tree: dict[str, Any], frames: list[dict[str, Any]]) -> None:
    """One line with every key that is neither read nor known to have no effect."""
    top = [key for key in tree if key not in (*_READ_ANYWHERE, *_READ_AT_THE_TOP, *_WITHOUT_EFFECT)]
    known = {*_READ_ANYWHERE, *_READ_IN_FRAMES, *_WITHOUT_EFFECT}
    in_frames = Counter(key for frame in frames for key in frame if key not in known)
    unread = [quote(key) for key in top] + [f"{quote(key)} in {count} frames" for key, count in in_frames.items()]
    if not unread:
        return
    crop = " Hide what lies outside of a fisheye's circle with masks." if "fisheye_crop_radius" in tree else ""
    be = "is" if len(unread) == 1 else "are"
    log.warning("%s: %s %s ignored (not supported).%s", path, listed(unread, 8), be, crop)


def require_one_pose(frame: dict[str, Any], where: str) -> Any:
    """The matrix of a frame. Raises UserError if it moves between a start and an end (rolling shutter)."""
    start, end = frame.get("transform_matrix_start"), frame.get("transform_matrix_end")
    matrix = frame.get("transform_matrix", start)
    if (end is not None and end != matrix) or (start is not None and start != matrix):
        raise UserError(
            f"{where}: the camera moves while it exposes (transform_matrix_start, transform_matrix_end), which is not "
            "read. Give the pose of the middle of the exposure as 'transform_matrix' alone."
        )
    return matrix
