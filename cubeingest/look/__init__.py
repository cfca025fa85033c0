"""Pictures of a cube: what is in it, how far it is, what has changed."""

from cubeingest.look.colours import Colours, LegendRow, read_colours
from cubeingest.look.old import draw_map, draw_regions, save
from cubeingest.look.palette import MISSING_COLOUR
from cubeingest.look.pixels import Picture, PixelReader, read_pixels

__all__ = ["MISSING_COLOUR", "Colours", "LegendRow", "Picture", "PixelReader", "draw_map", "draw_regions", "read_colours", "read_pixels", "save"]  # fmt: skip
