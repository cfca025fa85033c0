"""Small drawings of a lattice as SVG, for notebooks, and the colours of what may hold in a region. No drawing library is needed."""

from __future__ import annotations

STATE_COLOURS = {"done": "#1f7a6d", "empty": "#a5d5c9", "pending": "#f2a93b", "absent": "#c9ced2", "virtual": "#4a6fb3"}
"""By state of a slot; people who are colour-blind tell them apart, and in grey they are of different lightness."""

PART_COLOUR = "#7f9a4e"
"""Of a region some of whose slots are done, and others pending."""

CHANGE_COLOURS = {"added": "#1f7a6d", "changed": "#f2a93b", "removed": "#b3446c", "reread": "#9db4cf"}
"""By what became of a slot."""
