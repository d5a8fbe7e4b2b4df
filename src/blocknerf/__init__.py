"""blocknerf: radiance fields for scenes larger than one model."""


def __getattr__(name: str) -> str:
    """`__version__` is looked up when it is asked for: the program is to start before anything can interrupt it."""
    if name == "__version__":
        from importlib.metadata import version

        return version("blocknerf")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
