"""From YAML to a :class:`CubeSpec`: everything that is declared about a cube, checked once.

The only home of YAML and pydantic; what leaves this package are plain frozen values.
"""

from cubeingest.spec.build import RESERVED_AXIS_NAMES, spec_from_document
from cubeingest.spec.grow import Growth, find_growth, grow_axes, leaves_step
from cubeingest.spec.model import (
    CELL_IDS,
    CLASS_ATTRS,
    COMPUTED_ATTR,
    INTERNAL_GROUP,
    OVERVIEW_METHODS,
    OVERVIEWS,
    CubeSpec,
    PointSource,
    Source,
    Variable,
    differences,
    storage_of,
)
from cubeingest.spec.read import builtin_specs, read_spec, spec_from_json, spec_from_yaml
from cubeingest.spec.source import resolve
from cubeingest.spec.variable import build_codec
from cubeingest.spec.write import flow_text

__all__ = [
    "CELL_IDS",
    "CLASS_ATTRS",
    "COMPUTED_ATTR",
    "INTERNAL_GROUP",
    "OVERVIEWS",
    "OVERVIEW_METHODS",
    "RESERVED_AXIS_NAMES",
    "CubeSpec",
    "Growth",
    "PointSource",
    "Source",
    "Variable",
    "build_codec",
    "builtin_specs",
    "differences",
    "find_growth",
    "flow_text",
    "grow_axes",
    "leaves_step",
    "read_spec",
    "resolve",
    "spec_from_document",
    "spec_from_json",
    "spec_from_yaml",
    "storage_of",
]
