"""Geometry and rasters on the globe: lattice, polygons, whose pixel is whose, GDAL; nothing of Sentinel-2."""
