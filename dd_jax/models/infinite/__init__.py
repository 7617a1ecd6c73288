"""Infinitely wide networks, which are their kernels."""
