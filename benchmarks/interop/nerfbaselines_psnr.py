"""nerfbaselines' own evaluation but for LPIPS, whose weights it would download; loaded by nerfbaselines itself."""

from nerfbaselines import metrics  # pyright: ignore[reportMissingImports, reportAttributeAccessIssue]
from nerfbaselines.evaluation import DefaultEvaluationProtocol  # pyright: ignore[reportMissingImports]
from nerfbaselines.utils import convert_image_dtype, image_to_srgb  # pyright: ignore[reportMissingImports]


class WithoutLpips(DefaultEvaluationProtocol):
    """Renders and averages as `default` does, and rounds to bytes as it does."""

    _name = "without-lpips"

    def evaluate(self, predictions, dataset):
        rendered, truth = (
            convert_image_dtype(image_to_srgb(image, "uint8", color_space="srgb"), "float32")[None]
            for image in (predictions["color"], dataset["images"][0])
        )
        return {
            "psnr": metrics.psnr(metrics.mse(rendered, truth)).item(),
            "ssim": metrics.ssim(truth, rendered).item(),
        }
