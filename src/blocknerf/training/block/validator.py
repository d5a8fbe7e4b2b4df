"""Validation during training: renders a block's test images, measures them, and writes figures and pictures."""

from pathlib import Path
from statistics import fmean

import torch

from blocknerf.city.pictures import to_bytes, write_png
from blocknerf.core.logging import log
from blocknerf.core.names import word_of
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.rendering.colours import distance_colours
from blocknerf.training.block.checkpoint import save_or_warn
from blocknerf.training.block.inputs import BlockInputs
from blocknerf.training.block.losses.block_nerf_loss import BlockNeRFLoss
from blocknerf.training.block.metrics import TrainingMetrics
from blocknerf.training.block.validation import (
    ValidationView,
    evenly_picked,
    figures_of,
    render_novel_views,
    render_test_view,
)


class BlockValidator:
    """Renders the block's test images, and views between its training cameras, as `validation` says."""

    def __init__(
        self,
        inputs: BlockInputs,
        model: BlockNeRF,
        loss: BlockNeRFLoss,
        metrics: TrainingMetrics,
        render_dir: Path | None,
    ):
        """Pictures are written to `render_dir`; if it is None, there are no pictures."""
        self.inputs, self.model, self.loss, self.metrics, self.render_dir = inputs, model, loss, metrics, render_dir
        self.config = inputs.config.validation

    @property
    def test_images(self) -> list[str]:
        """The images that validation renders."""
        return evenly_picked(self.inputs.test_image_ids, self.config.num_val_images)

    def show_pictures(self, step: int) -> None:
        """Writes the first test image to TensorBoard."""
        for view in self._render(self.test_images[:1]):
            self.metrics.images(view.panels, step)

    def validate(self, step: int) -> dict[str, float]:
        """Mean PSNR and other figures of the test images; empty if no image has a pixel to measure."""
        views = self._render(self.test_images)
        save_or_warn(self.inputs.spec.id, lambda: self._write_pictures(views, step))
        for view in views[:1]:
            self.metrics.images(view.panels, step)
        figures = figures_of(views)
        if figures:
            log.info(
                "Block %s, step %d: validation PSNR %.2f dB over %d images.",
                self.inputs.spec.id,
                step,
                figures["psnr"],
                len(views),
            )
            self.metrics.log(self._losses(views), step)
        return figures

    def _render(self, image_ids: list[str]) -> list[ValidationView]:
        self.model.set_num_samples(None)
        rays_at_once = self.inputs.config.dataset.val_batch_size
        return [render_test_view(self.model, self.inputs.store, image_id, rays_at_once) for image_id in image_ids]

    def _losses(self, views: list[ValidationView]) -> dict[str, float]:
        """Means over the views that have a pixel to compare, unweighted."""
        terms = [self.loss.of_view(view, self.model.radius_m) for view in views if bool(view.valid.any())]
        names = dict.fromkeys(name for of_view in terms for name in of_view)
        return {
            f"validation/loss/{name}": fmean(float(of_view[name]) for of_view in terms if name in of_view)
            for name in names
        }

    def _write_pictures(self, views: list[ValidationView], step: int) -> None:
        """Side by side: photograph, render and distance of test views; render and distance of novel ones."""
        if self.render_dir is None:
            return
        folder = self.render_dir / f"step_{step:06d}"
        for view in views if self.config.render_test_views else ():
            panels = [view.panels[kind] for kind in ("truth", "render", "distance")]
            write_png(folder / f"test_{word_of(view.record.name)}.png", to_bytes(torch.cat(panels, 1)))
        count = self.config.num_val_images if self.config.render_novel_views else 0
        renders = render_novel_views(self.model, self.inputs.store, self.inputs.image_ids, count)
        for number, render in enumerate(renders):
            panels = [render.rgb, distance_colours(render)]
            write_png(folder / f"novel_{number:02d}.png", to_bytes(torch.cat(panels, 1)))
