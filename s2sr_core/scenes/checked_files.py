"""Images against the checksums of their manifests, each the first time it is used and again when it changed."""

from __future__ import annotations

import hashlib

from s2sr_core.errors import ProductError, Step
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.products.checked_files import CheckedFiles
from s2sr_core.products.manifest import HASHES
from s2sr_core.products.partial_images import PartialImage, image_path
from s2sr_core.products.safe import BandFile
from s2sr_core.run_context import RunContext

#: Rows of a read: the height of a tile of 20 m bands.
_ROWS = 640


def check(context: RunContext, name: str, file: BandFile) -> bool:
    """Compare an image with its checksum as the parameter ``check_files`` says; gives whether it is known to be right.

    A run that downloads compares what it receives and what is there already, and need not do so again unless every use
    is to be checked. An image that no manifest vouches for has a checksum of its own bytes, which is right. If only
    some tiles of an image are there, each is compared with what came, and nothing says whether that was right.

    Raises
    ------
    ProductError
        If its bytes are not those that the manifest describes, or cannot be read.
    """
    parameters = context.parameters
    algorithm, _, expected = file.checksum.partition(":")
    is_download = not parameters.is_in_place and parameters.stage != "composite"
    if not file.is_listed or (is_download and parameters.check_files != "always"):
        return not file.is_partial
    if file.is_partial:
        _check_tiles(name, file, is_asked=parameters.check_files != "never")
        return False
    if algorithm not in HASHES or parameters.check_files == "never":
        return False
    try:
        if _is_known(context, name, file):
            return True
        with file.path.open("rb") as stream:
            found = hashlib.file_digest(stream, HASHES[algorithm]).hexdigest()
    except OSError as error:
        reason = f"{file.path.name} cannot be read: {error.strerror}"
        raise ProductError(name, reason, step=Step.FILES, band=file.band) from error
    if found != expected:
        reason = f"{file.path.name} has not the {algorithm.upper()} that the manifest says: its bytes have changed"
        raise ProductError(name, reason, step=Step.FILES, band=file.band)
    CheckedFiles(context.workspace).remember(name, file.path, file.checksum)
    return True


def _check_tiles(name: str, file: BandFile, *, is_asked: bool) -> None:
    partial = PartialImage.read(image_path(file.path), file.size, file.checksum) if is_asked else None
    try:
        is_right = partial is None or not partial.changed()
    except OSError as error:
        reason = f"{file.path.name} cannot be read: {error.strerror}"
        raise ProductError(name, reason, step=Step.FILES, band=file.band) from error
    if not is_right:
        reason = f"{file.path.name} has tiles that are not as they came: its bytes have changed"
        raise ProductError(name, reason, step=Step.FILES, band=file.band)


def check_decodes(context: RunContext, name: str, file: BandFile, dataset: gdal.Dataset) -> None:
    """Decode the whole of an image that no manifest vouches for, as often as ``check_files`` says.

    Raises
    ------
    ProductError
        If it cannot be decoded.
    """
    if file.is_listed or context.parameters.check_files == "never" or _is_known(context, name, file):
        return
    try:
        for top in range(0, dataset.RasterYSize, _ROWS):
            dataset.ReadAsArray(0, top, dataset.RasterXSize, min(_ROWS, dataset.RasterYSize - top))
    except RuntimeError as error:
        reason = f"{file.path.name} cannot be decoded ({' '.join(str(error).split())})"
        raise ProductError(name, reason, step=Step.DECODE, band=file.band) from error
    CheckedFiles(context.workspace).remember(name, file.path, file.checksum)


def _is_known(context: RunContext, name: str, file: BandFile) -> bool:
    """Whether the file was found right before, and that is enough."""
    is_enough = context.parameters.check_files == "once"
    return is_enough and CheckedFiles(context.workspace).knows(name, file.path, file.checksum)
