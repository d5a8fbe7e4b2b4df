"""Everything learned."""
