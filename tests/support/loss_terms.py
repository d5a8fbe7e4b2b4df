"""Overrides that switch on every term of the loss that is off by default: a new term is added here."""

EVERY_TERM = (
    "dataset.use_depth=true",
    "training.rgb_l1_share=0.1",
    "training.rgb_ssim_share=0.1",
    "training.regularization_weight=1e-6",
)
