"""viser, the web server of the viewer, is an extra: its module object, with types for type checkers."""

from typing import TYPE_CHECKING, Any

from blocknerf.core.extras import Extra

EXTRA = Extra("viser", "view", "The viewer")

if TYPE_CHECKING:
    import viser as viser
else:
    viser = EXTRA


def input_widget(gui: Any, uuid: str) -> Any | None:
    """The widget of a `viser.GuiApi` with that name in browsers; viser has no public function for it."""
    return gui._gui_input_handle_from_uuid.get(uuid)
