"""Other programs: their formats, their measures of quality, and training beside them."""
