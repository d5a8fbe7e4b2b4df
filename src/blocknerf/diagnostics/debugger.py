"""`BlockNeRFDebugger`: the documents' checks of data, gradients, rendering and memory, each on its own."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from blocknerf.core.config.config import Config
from blocknerf.core.errors import UserError
from blocknerf.diagnostics.data import check_batch, check_exposures, check_pictures, check_poses
from blocknerf.diagnostics.findings import Finding
from blocknerf.diagnostics.gradients import ComponentGradient, component_gradients, judge_gradients
from blocknerf.diagnostics.memory import PhaseMemory, profile_step
from blocknerf.diagnostics.ray import RayTrace, draw_ray, trace_ray
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.scene.sampler import PixelSampler
from blocknerf.scene.scene import ImageRecord
from blocknerf.scene.store import ImageStore

BATCHES = 5


class BlockNeRFDebugger:
    """Looks at blocks (by id) and at what they learn from; learns nothing itself."""

    def __init__(self, models: Mapping[str, BlockNeRF], config: Config):
        self.models = models
        self.config = config

    def check_data_quality(self, store: ImageStore) -> list[Finding]:
        """What is wrong with the photographs, masks, exposures and poses of a scene, and with batches drawn of them."""
        images = list(store.records.values())
        findings = [Finding("warning", f"{name} is left out: {reason}.") for name, reason in store.skipped]
        findings += check_poses(images) + check_exposures(images) + check_pictures(store)
        sampler = PixelSampler(
            store, store.image_ids, self.config.dataset.batch_size, self.config.training.seed, store.num_levels - 1
        )
        for _ in range(BATCHES):
            findings += [found for found in check_batch(sampler.next(), len(images)) if found not in findings]
        return findings

    def check_model_gradients(
        self, model: BlockNeRF, loss: Float[Tensor, ""]
    ) -> tuple[list[ComponentGradient], list[Finding]]:
        """Takes `loss` backwards and looks at what reaches each component; leaves no gradient behind."""
        _clear_gradients(model)
        loss.backward()
        gradients = component_gradients(model, self.config.training)
        _clear_gradients(model)
        return gradients, judge_gradients(gradients)

    def visualize_rendering_process(
        self,
        block_id: str,
        store: ImageStore,
        image: ImageRecord,
        pixel_xy: tuple[int, int],
        code: Float[Tensor, " code"] | None,
        path: Path,
    ) -> RayTrace:
        """Draws the ray of one pixel (column, row) of an image into the PNG at `path`. `code`: see `BlockNeRF.render`.

        Raises UserError when the image has no such pixel.
        """
        height, width = store.size(image.id)
        x, y = pixel_xy
        if not (0 <= x < width and 0 <= y < height):
            raise UserError(
                f"{image.name} has no pixel ({x}, {y}): it is {width} x {height} pixels, so columns are 0 to "
                f"{width - 1} and rows 0 to {height - 1}."
            )
        row = y * width + x
        trace = trace_ray(self.models[block_id], store.rays(image.id)[row : row + 1], code)
        photograph = store.rgb(image.id).astype(np.float32) / 255
        backbone = self.models[block_id].config.block_nerf.backbone
        title = f"Block {block_id} ({backbone}), pixel ({x}, {y}) of {image.name}"
        draw_ray(path, trace, photograph, pixel_xy, title)
        return trace

    def memory_profiling(self, model: BlockNeRF, sampler: PixelSampler) -> list[PhaseMemory]:
        """Peaks of data, forward, backward and optimiser in one training step; nothing of `model` moves."""
        return profile_step(model, sampler, self.config.training)


def _clear_gradients(model: BlockNeRF) -> None:
    model.zero_grad(set_to_none=True)
    for table in model.field.sparse_tables().values():
        if table.gradient is not None:
            table.gradient.zero_()
