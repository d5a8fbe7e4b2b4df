"""Radiance fields of a block: a package for each, behind one interface."""
