"""Dagster's code location: the shop that KASH_SHOP names.

Only this entry belongs here; what a shop has is put together in defs/assembly.py. Importing this module reads no file
and starts nothing: the shop file is read when Dagster asks for `defs`, a database when a run begins.
"""

import dagster as dg

from kash_pipeline.defs.assembly import build_definitions
from kash_pipeline.settings import Environment, load_shop

__all__ = ["build_definitions", "defs"]


@dg.definitions
def defs() -> dg.Definitions:
    """The shop's definitions. Raises SettingsError with file, key and correction when its file cannot be used."""
    return build_definitions(load_shop(Environment.read().shop_path))
