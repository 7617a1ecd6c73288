"""Is called `dd_jax.methods.sampling` now, and says so."""

raise ImportError("dd_jax.methods.drawing is now called dd_jax.methods.sampling.")
