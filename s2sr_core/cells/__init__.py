"""Gridcells: made on a regular grid, read from a CSV, selected by an area."""
