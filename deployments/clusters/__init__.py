"""Clusters that the pipeline computes on, one module each."""
