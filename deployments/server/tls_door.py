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
from pathlib import Path

import psutil

from deployments.clusters.network import LOOPBACK, in_url
from deployments.clusters.security import certificate_and_key

#: Bytes that are passed on at once.
_CHUNK = 1 << 16


@contextlib.contextmanager
def tls_door(host: str, port: int, folder: Path) -> Iterator[tuple[str, Path]]:
    """Pass on what comes to the address ``host`` over TLS to ``port`` of loopback, while the block lasts.

    Gives the URL, and the file in ``folder`` of the certificate that clients are to trust, which is no secret. All
    machines of the run must see that folder. The key is in this process alone.
    """
    certificate, key = certificate_and_key(host)
    folder.mkdir(parents=True, exist_ok=True)
    _remove_stale(folder)
    trusted = folder / f"server-{socket.gethostname()}-{os.getpid()}.pem"
    trusted.write_text(certificate, encoding="utf-8")
    try:
        with _loop() as loop:
            serving = asyncio.run_coroutine_threadsafe(_serve(host, port, _context(certificate, key)), loop).result()
            yield f"https://{in_url(host)}:{serving.sockets[0].getsockname()[1]}", trusted
            loop.call_soon_threadsafe(serving.close)
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
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="tls-door", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(_cancel_all, loop)
        loop.call_soon_threadsafe(lambda: loop.call_later(0, loop.stop))
        thread.join()
        loop.close()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()


async def _serve(host: str, port: int, context: ssl.SSLContext) -> asyncio.Server:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            inner_reader, inner_writer = await asyncio.open_connection(LOOPBACK, port)
            await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))

    return await asyncio.start_server(connected, host, 0, ssl=context)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on bytes until one side closes; then close the other."""
    try:
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
    finally:
        writer.close()
