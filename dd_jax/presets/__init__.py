"""Experiments by name, with the settings of the library and those of the papers: one file per family of methods."""

from dd_jax.presets.table import PAPERS, PRESETS, of_method, preset, smoke, told, with_few_networks

__all__ = ["PAPERS", "PRESETS", "of_method", "preset", "smoke", "told", "with_few_networks"]
