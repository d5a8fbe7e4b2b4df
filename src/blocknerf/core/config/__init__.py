"""Strict configuration: every key is known, typed, bounded and has an effect; a misspelt one names its nearest."""
