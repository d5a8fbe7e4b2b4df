"""Radiance fields of a block: one package for each, behind one interface."""
