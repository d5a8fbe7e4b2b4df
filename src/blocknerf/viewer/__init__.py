"""The page in the browser: what to draw, the thread that draws it, the map, the widgets."""
