"""How a city is held in memory."""

from blocknerf.core.config.section import Positive, Section


class CityConfig(Section):
    """How the blocks of a city are held when it is rendered."""

    memory_budget_gb: Positive = 2.0
    """Loaded blocks take at most this much; those used least recently leave. A picture needs up to three at once."""
