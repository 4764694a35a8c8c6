"""Windows of JPEG 2000 images: by the decoder of this package, and by the OpenJPEG that GDAL uses."""
