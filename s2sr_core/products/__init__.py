"""Sentinel-2 L2A products as ESA delivers them: names, baselines, metadata, manifests, files."""
