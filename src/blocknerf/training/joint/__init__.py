"""Joint training: neighbouring blocks exchange renders, so that they agree where both reach."""
