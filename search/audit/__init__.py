"""Audits: parameters, FLOPs and memory of any network."""
