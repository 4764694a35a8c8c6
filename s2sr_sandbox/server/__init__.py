"""A sandbox CDSE: a real HTTP server on loopback that behaves as Copernicus Data Space does, for any client.

>>> with running(Path("archive"), SandboxSettings(connections=2)) as sandbox:  # doctest: +SKIP
...     os.environ.update(sandbox.environment())
"""

from s2sr_sandbox.server.fault_plans import PLANS, FaultPlan
from s2sr_sandbox.server.faults import Fault, Faults
from s2sr_sandbox.server.log import Request
from s2sr_sandbox.server.products import Catalogue, Entry
from s2sr_sandbox.server.running import Sandbox, running
from s2sr_sandbox.server.settings import SandboxSettings

__all__ = [
    "PLANS",
    "Catalogue",
    "Entry",
    "Fault",
    "FaultPlan",
    "Faults",
    "Request",
    "Sandbox",
    "SandboxSettings",
    "running",
]
