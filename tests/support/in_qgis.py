"""Opens the outputs of a run in QGIS: ``/usr/bin/python3 in_qgis.py COMPOSITES PICTURE``, in a Python that has QGIS.

Prints, as JSON, what QGIS says of each raster and of the tile index in the folder ``composites``, and draws the mosaic
in true colour, in a polar projection, with the outlines and names of the cells over it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from qgis.core import (
    Qgis,
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsFillSymbol,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsPalLayerSettings,
    QgsRasterLayer,
    QgsVectorLayer,
    QgsVectorLayerSimpleLabeling,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor


def main(composites: Path, picture: Path) -> None:
    application = QgsApplication([], False)
    application.initQgis()
    said: dict[str, object] = {"version": Qgis.QGIS_VERSION}
    layers = {path.name: QgsRasterLayer(str(path), path.stem) for path in sorted(composites.rglob("*.vrt"))}
    layers |= {path.name: QgsRasterLayer(str(path), path.stem) for path in sorted(composites.rglob("*_clip.tif"))}
    for name, layer in layers.items():
        bands = range(1, layer.bandCount() + 1) if layer.isValid() else ()
        centre = layer.extent().center()
        said[name] = {
            "valid": layer.isValid(),
            "crs": layer.crs().authid(),
            "size": [layer.width(), layer.height()],
            "bands": [layer.bandName(band) for band in bands],
            "centre": [layer.dataProvider().sample(centre, band)[0] for band in bands],
        }
    index = QgsVectorLayer(str(composites / "tile_index.gpkg"), "tile index", "ogr")
    said["tile_index.gpkg"] = {
        "valid": index.isValid(),
        "crs": index.crs().authid(),
        "fields": [field.name() for field in index.fields()],
        "cells": [feature["cell_id"] for feature in index.getFeatures()],
    }
    _draw(layers["mosaic_true_colour_median.vrt"], index, picture)
    print(json.dumps(said))
    del layers, index, layer
    application.exitQgis()


def _draw(mosaic: QgsRasterLayer, index: QgsVectorLayer, picture: Path) -> None:
    index.renderer().setSymbol(QgsFillSymbol.createSimple({"color": "0,0,0,0", "outline_color": "white"}))
    labels = QgsPalLayerSettings()
    labels.fieldName = "cell_id"
    text = labels.format()
    text.setColor(QColor("white"))
    labels.setFormat(text)
    index.setLabeling(QgsVectorLayerSimpleLabeling(labels))
    index.setLabelsEnabled(True)
    settings = QgsMapSettings()
    settings.setLayers([index, mosaic])
    polar = QgsCoordinateReferenceSystem("EPSG:3413")
    settings.setDestinationCrs(polar)
    to_polar = QgsCoordinateTransform(mosaic.crs(), polar, settings.transformContext())
    settings.setExtent(to_polar.transformBoundingBox(mosaic.extent()))
    settings.setOutputSize(QSize(720, 720))
    settings.setBackgroundColor(QColor("white"))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(str(picture))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
