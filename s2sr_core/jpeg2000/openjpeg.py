"""Windows of JPEG 2000 images, without decoding the tiles around them.

GDAL decodes whole tiles (640 × 640 pixels in Sentinel-2's 20 m bands). OpenJPEG, which GDAL itself uses, can decode a
window of a tile (``opj_set_decode_area``), from only the code blocks that meet it; the pixels are the same. This binds
the few functions that this needs (OpenJPEG 2.x, ``openjpeg.h``), to the very library that GDAL has loaded.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_int, c_int32, c_size_t, c_uint16, c_uint32, c_void_p
from pathlib import Path

import numpy as np
import numpy.typing as npt

from s2sr_core.geo import jp2_check
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.lattice import Window

logger = logging.getLogger(__name__)

#: The JP2 file format, in OPJ_CODEC_FORMAT.
_CODEC_JP2 = 2
#: Room for opj_dparameters_t, 8.3 kB in OpenJPEG 2.5, which OpenJPEG fills with its defaults.
_PARAMETERS_SIZE = 1 << 16
#: What is read from the file at once: a tile of a 20 m band is some 400 kB, and windows need parts of it.
_CHUNK = 1 << 16
_MESSAGE = ctypes.CFUNCTYPE(None, c_char_p, c_void_p)


class _Component(ctypes.Structure):
    """opj_image_comp_t."""

    _fields_ = (
        *((name, c_uint32) for name in ("dx", "dy", "w", "h", "x0", "y0", "prec", "bpp", "sgnd", "resno_decoded")),
        ("factor", c_uint32),
        ("data", POINTER(c_int32)),
        ("alpha", c_uint16),
    )


class _Image(ctypes.Structure):
    """opj_image_t."""

    _fields_ = (
        *((name, c_uint32) for name in ("x0", "y0", "x1", "y1", "numcomps")),
        ("color_space", c_int),
        ("comps", POINTER(_Component)),
        ("icc_profile_buf", c_void_p),
        ("icc_profile_len", c_uint32),
    )


_SIGNATURES = {
    "opj_version": (c_char_p, ()),
    "opj_stream_create_file_stream": (c_void_p, (c_char_p, c_size_t, c_int)),
    "opj_stream_destroy": (None, (c_void_p,)),
    "opj_create_decompress": (c_void_p, (c_int,)),
    "opj_destroy_codec": (None, (c_void_p,)),
    "opj_set_error_handler": (c_int, (c_void_p, _MESSAGE, c_void_p)),
    "opj_set_default_decoder_parameters": (None, (c_void_p,)),
    "opj_setup_decoder": (c_int, (c_void_p, c_void_p)),
    "opj_read_header": (c_int, (c_void_p, c_void_p, POINTER(POINTER(_Image)))),
    "opj_set_decode_area": (c_int, (c_void_p, POINTER(_Image), c_int32, c_int32, c_int32, c_int32)),
    "opj_decode": (c_int, (c_void_p, c_void_p, POINTER(_Image))),
    "opj_image_destroy": (None, (POINTER(_Image),)),
}


def version() -> str | None:
    """Of the OpenJPEG 2.x with which GDAL reads JPEG 2000, if it can be called directly, else None."""
    library = _library()
    return None if library is None else str(library.opj_version().decode())


def is_available() -> bool:
    """Whether windows can be read, and are read right."""
    return _library() is not None and not problem()


@functools.cache
def problem() -> str:
    """What is wrong with the windows that OpenJPEG gives of a small known image; empty if nothing is.

    It is said in the log, once in each process.
    """
    wrong = "" if _library() is None else jp2_check.problem_of(lambda window: read_window(jp2_check.IMAGE, window))
    if wrong:
        logger.warning("OpenJPEG is not called directly: of a small image that comes with s2sr it %s", wrong)
    return wrong


def read_window(path: Path, window: Window) -> npt.NDArray[np.uint16]:
    """The pixels of ``window`` (columns and rows of the image) of a JP2 file of one unsigned component.

    Raises
    ------
    RuntimeError
        If the file is something else, or damaged, or there is no OpenJPEG (:func:`is_available`).
    """
    library = _library()
    if library is None:
        raise RuntimeError("GDAL's OpenJPEG library cannot be called directly")
    messages: list[str] = []
    heard = _MESSAGE(lambda text, _data: messages.append(text.decode(errors="replace").strip()))

    def check(went_well: object) -> None:
        if not went_well:
            raise RuntimeError(f"{path.name} cannot be decoded ({'; '.join(messages) or 'OpenJPEG gives no reason'})")

    with _decoder(library, path) as (stream, codec, image):
        check(library.opj_set_error_handler(codec, heard, None))
        parameters = ctypes.create_string_buffer(_PARAMETERS_SIZE)
        library.opj_set_default_decoder_parameters(parameters)
        check(library.opj_setup_decoder(codec, parameters))
        check(library.opj_read_header(stream, codec, byref(image)))
        component = image.contents.comps[0]
        is_plain = (image.contents.numcomps, image.contents.x0, image.contents.y0) == (1, 0, 0)
        if not is_plain or (component.dx, component.dy, component.sgnd) != (1, 1, 0) or component.prec > 16:
            raise RuntimeError(f"{path.name} is not one component of unsigned integers")
        check(library.opj_set_decode_area(codec, image, window.x0, window.y0, window.x1, window.y1))
        check(library.opj_decode(codec, stream, image))
        component = image.contents.comps[0]
        if (component.h, component.w) != window.shape or not component.data:
            raise RuntimeError(f"{path.name}: {component.h} × {component.w} pixels decoded instead of {window.shape}")
        return np.ctypeslib.as_array(component.data, window.shape).astype(np.uint16)


@contextmanager
def _decoder(library: ctypes.CDLL, path: Path) -> Iterator[tuple[int, int, ctypes._Pointer[_Image]]]:
    image = POINTER(_Image)()
    stream = library.opj_stream_create_file_stream(os.fsencode(path), _CHUNK, 1)
    if not stream:
        raise RuntimeError(f"{path.name} cannot be opened")
    codec = library.opj_create_decompress(_CODEC_JP2)
    try:
        yield stream, codec, image
    finally:
        library.opj_image_destroy(image)
        library.opj_destroy_codec(codec)
        library.opj_stream_destroy(stream)


@functools.cache
def _library() -> ctypes.CDLL | None:
    """The OpenJPEG that is part of this process because GDAL is linked to it; another build could differ."""
    if gdal.GetDriverByName("JP2OpenJPEG") is None:
        return None
    with Path("/proc/self/maps").open(encoding="utf-8", errors="replace") as mapped:
        found = re.search(r"(/.*/libopenjp2\b[^/\n]*)$", mapped.read(), re.MULTILINE)
    if found is None:
        return None
    try:
        library = ctypes.CDLL(found[1])
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError):
        return None
    return library if library.opj_version().startswith(b"2.") else None
