"""Ray to pixel. Takes callables, never a model class."""
