"""The viewer in the browser: requests, the rendering thread, the map, the widgets."""
