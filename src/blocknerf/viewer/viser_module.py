"""viser, the page in the browser, is an extra: here stands its name, with its types for who checks them."""

from typing import TYPE_CHECKING

from blocknerf.core.extras import Extra

EXTRA = Extra("viser", "view", "The viewer")

if TYPE_CHECKING:
    import viser as viser
else:
    viser = EXTRA
