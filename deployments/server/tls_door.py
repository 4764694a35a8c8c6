"""The way to a run's own Prefect server from other machines: TLS, in front of a server that listens on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import psutil

from deployments.clusters.network import LOOPBACK, in_url
from deployments.clusters.security import certificate_and_key

#: Bytes that are passed on at once.
_CHUNK = 1 << 16


@contextlib.contextmanager
def tls_door(host: str, port: int, folder: Path) -> Iterator[tuple[str, Path]]:
    """Pass on what comes to the address ``host`` over TLS to ``port`` of loopback, while the block lasts.

    Gives the URL, and the file in ``folder`` of the certificate that clients are to trust, which is not secret. All
    machines of the run must see that folder. The key is in this process alone.
    """
    certificate, key = certificate_and_key(host)
    folder.mkdir(parents=True, exist_ok=True)
    _remove_stale(folder)
    trusted = folder / f"server-{socket.gethostname()}-{os.getpid()}.pem"
    trusted.write_text(certificate, encoding="utf-8")
    try:
        with _served(host, port, _context(certificate, key)) as outer_port:
            yield f"https://{in_url(host)}:{outer_port}", trusted
    finally:
        trusted.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # if the run has left nothing else there


def _remove_stale(folder: Path) -> None:
    """Remove certificates of runs on this machine whose processes are gone."""
    for path in folder.glob(f"server-{socket.gethostname()}-*.pem"):
        process = path.stem.rpartition("-")[2]
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            path.unlink(missing_ok=True)


def _context(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:  # OpenSSL reads keys from files
        paths = Path(folder) / "certificate.pem", Path(folder) / "key.pem"
        for path, text in zip(paths, (certificate, key), strict=True):
            path.write_text(text, encoding="utf-8")
        context.load_cert_chain(*paths)
    return context


@contextlib.contextmanager
def _served(host: str, port: int, context: ssl.SSLContext) -> Iterator[int]:
    """Serve in a thread of its own; gives the port."""
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            inner_reader, inner_writer = await asyncio.open_connection(LOOPBACK, port)
            await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))

    async def serve() -> None:
        try:
            server, over = await asyncio.start_server(connected, host, 0, ssl=context), asyncio.Event()
        except OSError as error:
            started.set_exception(error)
            return
        started.set_result((asyncio.get_running_loop(), over, server.sockets[0].getsockname()[1]))
        await over.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="tls-door", daemon=True)
    thread.start()
    loop, over, outer_port = started.result()
    try:
        yield outer_port
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on bytes until one side closes; then close the other."""
    try:
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
    finally:
        writer.close()
