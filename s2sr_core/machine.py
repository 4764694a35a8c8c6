"""What a run needs of the machine and of the environment. Each check ends in one sentence, before any work.

``--doctor`` and every run make the same checks.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from s2sr_core.errors import InputError, InstallationError
from s2sr_core.geo import geometry, jp2_check
from s2sr_core.geo.gdal_runtime import IMAGE_DRIVERS, gdal

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
#: Schemes of proxies that both requests (CDSE) and httpx (Prefect) speak to.
_SCHEMES = ("http", "https", "socks5", "socks5h")
#: GDAL's drivers that every run needs, whatever its images are; and those for JPEG 2000, one of which is enough.
_DRIVERS = ("VRT", "GTiff", "COG", "MEM", "PNG", "GPKG")
_JPEG2000 = ("JP2OpenJPEG", *(name for name in IMAGE_DRIVERS if name.startswith("JP2")))
#: Settings because of which GDAL may lack drivers, and what to do.
_LEAVES_OUT = {
    "GDAL_SKIP": "take them out of the list",
    "OGR_SKIP": "take them out of the list",
    "GDAL_DRIVER_PATH": "set it to the folder of this GDAL's plugins",
}
#: One of GDAL's data files: all versions have it.
_GDAL_FILE = "gdalvrt.xsd"


def check_machine() -> None:
    """Make all checks that do not depend on the parameters.

    Raises
    ------
    InputError
        For the first thing that is wrong: it names the variable.
    InstallationError
        If PROJ has no database, and no variable is to blame.
    """
    for _, check in CHECKS:
        check()


def check_temporary_folder() -> str:
    """The folder of temporary files; a ``TMPDIR`` that cannot be used is replaced for this process and its children.

    Raises
    ------
    InputError
        If no folder can be written.
    """
    asked = os.environ.get("TMPDIR", "")
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError as error:
        raise InputError(
            "TMPDIR", asked, "neither this nor another folder for temporary files can be written", "set it to one"
        ) from error
    if asked and Path(asked).absolute() != Path(folder).absolute():
        os.environ["TMPDIR"] = folder
        return f"{folder} (TMPDIR={asked} cannot be written)"
    return folder


def check_proxies() -> str:
    """The proxies for hosts other than this machine, without their passwords.

    Raises
    ------
    InputError
        If one is not the address of a proxy, or ``NO_PROXY`` stops the HTTP client of Prefect.
    """
    import httpx

    given = {name: value for name in _PROXIES if (value := _environment(name))}
    shown = {name: _check_proxy(name, value) for name, value in given.items()}
    try:
        httpx.Client(verify=False).close()  # noqa: S501  # asks nobody: it reads the environment
    except (httpx.InvalidURL, ValueError) as error:
        raise InputError(
            "NO_PROXY", _environment("no_proxy"), f"has an entry that cannot be used ({error})", "remove it"
        ) from error
    return " ".join(f"{name}={value}" for name, value in shown.items()) or "none"


def _environment(name: str) -> str:
    """A variable that may be written in small letters, which come first."""
    return os.environ.get(name.lower()) or os.environ.get(name.upper(), "")


def _check_proxy(name: str, value: str) -> str:
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        usable = parts.scheme in _SCHEMES and parts.hostname and parts.port != 0
    except ValueError:
        parts, usable = SplitResult("", "", "", "", ""), ""
    if not usable:
        shown = value.rpartition("@")[2]  # what is before it may be a password
        raise InputError(name, shown, "is not the address of a proxy", "write http://host:port, or unset it")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def check_proj() -> str:
    """That PROJ's database serves this PROJ: the central meridian of UTM zone 6 is 147° W.

    Raises
    ------
    InputError
        If it does not, and the environment names it.
    InstallationError
        If it does not, and PROJ found it by itself.
    """
    try:
        longitude, latitude, _ = geometry.to_wgs84("EPSG:32606").TransformPoint(500_000.0, 7_600_000.0)
        right = abs(longitude + 147.0) < 1e-9 and 68 < latitude < 69
        problem = "" if right else f"EPSG:32606 500000 7600000 was transformed to {longitude} {latitude}"
    except RuntimeError as error:
        problem = " ".join(str(error).split())
    if not problem:
        return "EPSG:32606 to EPSG:4326"
    remedy = "set PROJ_DATA to the folder of the proj.db that belongs to this PROJ"
    for name in ("PROJ_DATA", "PROJ_LIB"):
        if os.environ.get(name):
            raise InputError(
                name, os.environ[name], f"has no proj.db for this PROJ ({problem})", f"unset it; else {remedy}"
            )
    raise InstallationError(f"PROJ has no database that it can use ({problem}); {remedy}.")


def check_gdal_data() -> str:
    """GDAL's folder of data files, if the environment names one.

    Raises
    ------
    InputError
        If the environment names a folder without them.
    """
    folder = os.environ.get("GDAL_DATA", "")
    if folder and not (Path(folder) / _GDAL_FILE).is_file():
        raise InputError(
            "GDAL_DATA",
            folder,
            f"is not the folder of GDAL's data files ({_GDAL_FILE} is not in it)",
            "unset it: a GDAL that is installed as a whole finds its own",
        )
    return folder or "found by GDAL"


def check_drivers() -> str:
    """That GDAL has the drivers that every run needs.

    Raises
    ------
    InputError
        If it lacks some, and a setting of GDAL, in the environment or in its file, leaves out drivers.
    InstallationError
        If it lacks some, and no setting is to blame.
    """
    missing = [name for name in _DRIVERS if gdal.GetDriverByName(name) is None]
    # Drivers that read wrong are there, too; the self-test takes them out, and says so itself.
    if not any(map(gdal.GetDriverByName, _JPEG2000)) and not jp2_check.check_drivers():
        missing.append(_JPEG2000[0])
    if not missing:
        return f"{' '.join(_DRIVERS)} and JPEG 2000"
    what = " ".join(missing)
    for name, remedy in _LEAVES_OUT.items():
        if setting := gdal.GetConfigOption(name):
            raise InputError(name, setting, f"leaves GDAL without {what}", f"{remedy}, or unset it")
    raise InstallationError(f"this GDAL has no driver {what}; install one built with it (conda-forge: libgdal).")


def check_locks(folder: Path) -> str:
    """Whether the filesystem of ``folder`` has locks, by which two runs are kept from one work folder.

    Raises
    ------
    OSError
        If it has none, or ``folder`` cannot be written.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return str(folder)


#: Checks by the name that ``--doctor`` gives them.
CHECKS: tuple[tuple[str, Callable[[], str]], ...] = (
    ("GDAL's drivers", check_drivers),
    ("temporary files", check_temporary_folder),
    ("proxies", check_proxies),
    ("PROJ data", check_proj),
    ("GDAL data", check_gdal_data),
)
