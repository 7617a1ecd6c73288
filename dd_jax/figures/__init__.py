"""Figures: distilled images, the accuracy while they were learnt, step sizes, graphs, charts.

Functions named ..._figure draw, without pyplot, so that no global state is read or left behind; `encode` makes bytes or
text of what they drew. Nothing here touches a file: see `dd_jax.runs.pictures`.
"""
