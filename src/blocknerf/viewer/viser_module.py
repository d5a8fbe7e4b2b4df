"""viser, the page in the browser, is an extra: here stands its name, with its types for who checks them."""

from typing import TYPE_CHECKING, Any

from blocknerf.core.extras import Extra

EXTRA = Extra("viser", "view", "The viewer")

if TYPE_CHECKING:
    import viser as viser
else:
    viser = EXTRA


def input_widget(gui: Any, uuid: str) -> Any | None:
    """The widget of a `viser.GuiApi` that a browser calls by that name; viser has no public way to ask."""
    return gui._gui_input_handle_from_uuid.get(uuid)
