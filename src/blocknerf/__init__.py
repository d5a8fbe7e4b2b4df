"""blocknerf: radiance fields for scenes larger than one model."""

from importlib.metadata import version

__version__ = version("blocknerf")
