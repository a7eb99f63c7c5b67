"""The sampler: what to try next. It imports nothing of the other packages, so that it can be used by itself."""
