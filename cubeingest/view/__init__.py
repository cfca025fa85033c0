"""A cube on a map in the browser: tiles from its overviews, values over the axes at a point, every snapshot. A local web server."""

from cubeingest.view.server import DEFAULT_PORT, Viewer, serve, start_viewer

__all__ = ["DEFAULT_PORT", "Viewer", "serve", "start_viewer"]
