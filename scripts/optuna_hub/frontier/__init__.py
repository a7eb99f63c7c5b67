"""Finds the cheapest configuration whose score reaches a threshold, where the cost is known before any evaluation."""

from .sampler import FrontierPruner, FrontierSampler

__all__ = ["FrontierPruner", "FrontierSampler"]
