"""Draft a spec from a handful of tiles: headers → lattice → names → layers → document → text."""

from cubeingest.inference.draft import Inferred, infer, infer_spec, write_spec

__all__ = ["Inferred", "infer", "infer_spec", "write_spec"]
