"""How a city is held in memory."""

from blocknerf.core.config.section import Positive, Section


class CityConfig(Section):
    """How the blocks of a city are held when it is rendered."""

    memory_budget_gb: Positive = 2.0
    """Maximum memory of the loaded blocks, in GB. The least recently used block is unloaded first. A picture needs up
    to three blocks."""
