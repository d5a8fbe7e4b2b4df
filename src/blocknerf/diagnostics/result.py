"""The result of inspecting one block."""

from dataclasses import dataclass
from pathlib import Path

from blocknerf.diagnostics.findings import Finding
from blocknerf.diagnostics.gradients import ComponentGradient
from blocknerf.diagnostics.memory import PhaseMemory
from blocknerf.diagnostics.pose_motions import PoseMotion
from blocknerf.diagnostics.ray import RayTrace
from blocknerf.diagnostics.seam import SeamView


@dataclass(frozen=True, slots=True)
class Inspection:
    """Findings; names of pictures are relative to `folder`, which also has index.html and inspect.json."""

    folder: Path
    block_id: str
    state: str
    image: str
    pixel_xy: tuple[int, int]
    findings: list[Finding]
    gradients: list[ComponentGradient]
    trace: RayTrace
    memory: list[PhaseMemory]
    ray_png: str
    coverage_png: str
    poses_by: str | None
    """What shares an offset: "drive", "segment" or "image"; None if poses are not refined."""
    pose_motions: list[PoseMotion]
    seam: SeamView | None = None
    seam_png: str | None = None

    @property
    def page(self) -> Path:
        return self.folder / "index.html"
