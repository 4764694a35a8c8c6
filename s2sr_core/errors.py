"""The errors of a run: bad input, an incomplete installation, a source or workers that fail, one product at fault."""

from __future__ import annotations

from enum import StrEnum


class Step(StrEnum):
    """The work that failed for a product or a composite, as the tables of errors name it (docs/outputs.md)."""

    # Finding and fetching a product, then phase 1.
    QUERY = "query"
    NAME = "name"
    METADATA = "metadata"
    READ = "read"
    CONNECTION = "connection"
    DOWNLOAD = "download"
    FILES = "files"
    OPEN = "open"
    MASK = "mask"
    PREPARE = "prepare"
    # Phase 2: of a product's band, then of a composite.
    DECODE = "decode"
    SCENES = "scenes"
    SELECT = "select"
    STATISTIC = "statistic"
    WRITE = "write"
    RECORD = "record"
    TASK = "task"


class S2SRError(Exception):
    """Base of every error raised on purpose."""


class InputError(S2SRError):
    """Bad input, found before any work started; the command lines exit with code 2.

    Parameters
    ----------
    field:
        The parameter at fault, as the user wrote it (``bbox``, ``grid_csv`` …).
    value:
        What was given.
    problem:
        What is wrong with it.
    remedy:
        What to do about it.
    """

    def __init__(self, field: str, value: object, problem: str, remedy: str) -> None:
        super().__init__(field, value, problem, remedy)
        self.field = field
        self.value = value
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.field} = {_shown(self.value)}: {self.problem}; {self.remedy}."


class InstallationError(S2SRError):
    """Something that the program needs is not installed; the message says what to install."""


class SourceError(S2SRError):
    """A source of products refused to answer, or answered nonsense."""


class SourceDownError(SourceError):
    """A source of products was out of reach for longer than the run waits; the message names its host."""


class ClusterError(S2SRError):
    """The workers of a run are lost and no others come; the message names the job and its log."""


class RunError(S2SRError):
    """A run that failed as a whole; the message says why."""


class ProductError(S2SRError):
    """One product cannot be used; the run continues without it.

    Parameters
    ----------
    product:
        The name of the product.
    reason:
        What is wrong with it.
    step:
        The step of the run that found it.
    band:
        The band at fault; empty if it is the whole product.
    """

    def __init__(self, product: str, reason: str, *, step: Step = Step.READ, band: str = "") -> None:
        super().__init__(product, reason, step, band)
        self.product = product
        self.reason = reason
        self.step = step
        self.band = band

    def __reduce__(self) -> tuple[object, ...]:
        return (_product_error, (self.product, self.reason, self.step, self.band))

    def __str__(self) -> str:
        band = f" {self.band}" if self.band else ""
        return f"{self.product}{band}: {self.reason}"


class OtherKindError(ProductError):
    """A product of another kind than this program composites: it is left out, which is not a failure of the run."""


def _product_error(product: str, reason: str, step: Step, band: str) -> ProductError:
    return ProductError(product, reason, step=step, band=band)


def _shown(value: object) -> str:
    """``value`` for a sentence: short, on one line."""
    text = (
        value
        if isinstance(value, str)
        else " ".join(map(str, value))
        if isinstance(value, list | tuple)
        else str(value)
    )
    text = " ".join(text.split())
    return f"'{text[:77]}…'" if len(text) > 78 else f"'{text}'"
