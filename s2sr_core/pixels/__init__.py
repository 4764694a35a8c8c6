"""The rules of the pixels, as functions over arrays, and how GDAL is asked to apply them."""
