"""Who may talk to the scheduler and workers of a run: only processes that have the keys, which are made for the run.

Whoever can talk to them can run code as the user whose run it is. So every port of Dask speaks TLS and asks for the
run's certificate, that of the scheduler, of workers and of their nannies; and there are no web pages.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import dask
from distributed.comm import get_address_host_port
from distributed.security import Security

from s2sr_core.errors import ClusterError, InputError
from s2sr_core.files import remove_tree

#: How far the clocks of two machines of a run may differ.
CLOCKS = timedelta(days=1)
#: How long a run may last. With keys of an earlier run nobody can do anything: its scheduler is gone.
_LONGEST = timedelta(days=365)
#: A scheduler that refuses so many connections, with pauses of so many seconds between them, is not there; seconds that
#: an answer may take.
_ATTEMPTS, _PAUSE, _PATIENCE = 3, 1.0, 10.0


def security_of_run() -> Security:
    """Keys and certificate that are made now and are on no disk, for processes to which this object can be sent."""
    return security_of(*certificate_and_key())


@contextlib.contextmanager
def keys_in(folder: Path) -> Iterator[Security]:
    """The same in files of ``folder`` that only this user can read, while the block lasts.

    Raises
    ------
    InputError
        If the filesystem does not keep files private.
    """
    remove_tree(folder)
    try:
        folder.mkdir(mode=0o700, parents=True)
        for path, text in zip(files_in(folder), certificate_and_key(), strict=True):
            path.touch(mode=0o600, exist_ok=False)
            if (mode := path.stat().st_mode & 0o777) & 0o077:
                raise InputError(
                    "work_dir",
                    folder.parents[1],
                    f"is on a filesystem that gives a new file of mode 0600 mode {mode:04o}: keys would not be private",
                    "give a folder on a filesystem with permissions",
                )
            path.write_text(text)
        yield security_of(*map(str, files_in(folder)))
    finally:
        remove_tree(folder)


def files_in(folder: Path) -> tuple[Path, Path]:
    """The files of the certificate and of the key in ``folder``."""
    return folder / "certificate.pem", folder / "key.pem"


def security_of(certificate: str, key: str) -> Security:
    """For all roles; ``certificate`` and ``key`` are PEM, or paths of such files."""
    roles = {f"tls_{role}_{part}": value for role in ("client", "scheduler", "worker")
             for part, value in (("cert", certificate), ("key", key))}  # fmt: skip
    return Security(require_encryption=True, tls_ca_file=certificate, **roles)


@contextlib.contextmanager
def without_pages() -> Iterator[None]:
    """Schedulers and workers that start within the block have no web pages: they would show what runs to anybody.

    Nor do they look a hundred times a second at what each thread does, which such a page would show.
    """
    routes: dict[str, list[str]] = {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}
    with dask.config.set({**routes, "distributed.worker.profile.enabled": False}):
        yield


def check_clock(security: Security) -> None:
    """Look whether this machine's clock allows the certificate of a run that another machine made.

    Raises
    ------
    FileNotFoundError
        If the file of the certificate is gone.
    InputError
        If one of them is wrong by more than a day.
    """
    from cryptography import x509

    given: str = security.tls_ca_file
    pem = given.encode() if "\n" in given else Path(given).read_bytes()
    found, now = x509.load_pem_x509_certificate(pem), datetime.now(UTC)
    if not found.not_valid_before_utc <= now <= found.not_valid_after_utc:
        raise InputError(
            "clock",
            now.isoformat(timespec="seconds"),
            f"on this machine is not near that of the machine with the flow, which made keys at "
            f"{(found.not_valid_before_utc + CLOCKS).isoformat(timespec='seconds')}",
            "set both clocks; most sites use NTP",
        )


def check_scheduler(address: str, security: Security | None) -> None:
    """Look whether the scheduler of the run is there, for a job that may start long after its run has ended.

    If there is no answer at all, a slow network may be the reason, and that is not an error here.

    Raises
    ------
    ClusterError
        If nothing listens at ``address``, or something that has not the keys of the run.
    """
    host, port = get_address_host_port(address)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with socket.create_connection((host, port), _PATIENCE) as connection:
                if security is None:
                    return
                context = security.get_connection_args("worker")["ssl_context"]
                with context.wrap_socket(connection):
                    return
        except TimeoutError:
            return
        except (ConnectionError, ssl.SSLError, OSError) as error:
            if attempt == _ATTEMPTS:
                reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
                raise ClusterError(
                    f"the scheduler of the run does not answer at {address} ({reason}): the run that submitted this "
                    "job has ended, or a firewall is between this machine and its own; interface in the site file "
                    "says which network they share"
                ) from error
        time.sleep(_PAUSE)


def certificate_and_key(host: str | None = None) -> tuple[str, str]:
    """A certificate, and the key that signs it, which is on the curve P-256 and is made in no time; both as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a run of s2sr")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS)
        .not_valid_after(now + _LONGEST)
        # As a strict check (Python 3.13's default) wants it of a certificate that vouches for itself.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if host is not None:
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))])
        certificate = certificate.add_extension(names, critical=False)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.sign(key, hashes.SHA256()).public_bytes(pem).decode(), private.decode()
