"""Pictures of a cube: its grid, how far it is, its pixels, what has changed."""

from cubeingest.look.attributes import Attributes
from cubeingest.look.cells import seen_box, shrink_counts
from cubeingest.look.colours import Colours, read_colours
from cubeingest.look.frame import check_drawing, draw_edges, new_figure
from cubeingest.look.maps import MapView, picture_map, read_map, window_of_bbox
from cubeingest.look.notebook import describe_cube
from cubeingest.look.palette import MISSING_COLOUR
from cubeingest.look.pixels import Picture, PixelReader
from cubeingest.look.shows import (
    check_file,
    file_name,
    save_picture,
    show_cube_grid,
    show_diff,
    show_grid,
    show_map,
    show_status,
)
from cubeingest.look.states import SUMMARIES, count_by_region, percent_of, share_done, summarise

__all__ = [
    "MISSING_COLOUR",
    "SUMMARIES",
    "Attributes",
    "Colours",
    "MapView",
    "Picture",
    "PixelReader",
    "check_drawing",
    "check_file",
    "count_by_region",
    "describe_cube",
    "draw_edges",
    "file_name",
    "new_figure",
    "percent_of",
    "picture_map",
    "read_colours",
    "read_map",
    "save_picture",
    "seen_box",
    "share_done",
    "show_cube_grid",
    "show_diff",
    "show_grid",
    "show_map",
    "show_status",
    "shrink_counts",
    "summarise",
    "window_of_bbox",
]
