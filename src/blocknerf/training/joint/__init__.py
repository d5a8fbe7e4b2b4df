"""Joint training: what neighbouring blocks show each other, so that they agree where both reach."""
