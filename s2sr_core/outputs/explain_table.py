"""The explanation of a pixel as text."""

from __future__ import annotations

from collections.abc import Sequence

from s2sr_core.outputs.explain import BandExplanation, Explanation, StatisticValue
from s2sr_core.outputs.pixel_history import SceneValue

_TITLES = ("sensing time", "baseline", "offset", "DN around it", "SCL around it", "harmonised", "warped", "verdict")
#: The most values that are listed.
_LISTED = 60


def as_text(explanation: Explanation) -> str:
    """A table of the products and the comparison with the composite, band by band."""
    longitude, latitude = explanation.centre
    head = (
        f"pixel       column {explanation.file_column}, row {explanation.file_row} of gridcell {explanation.cell_id}; "
        f"its centre is {longitude:.7f} {latitude:.7f}; {explanation.resampling} resampling"
    )
    return "\n".join([head, *(line for band in explanation.bands for line in _band(band))])


def _band(band: BandExplanation) -> list[str]:
    rows = [_TITLES, *(_row(scene) for scene in band.scenes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_TITLES))]
    table = ["  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    values = " ".join(map(str, band.values[:_LISTED])) + (" …" if len(band.values) > _LISTED else "")
    return [
        "",
        f"{band.period} {band.band}".lstrip(),
        *table,
        f"values      {values or 'none'}",
        *(line for statistic in band.statistics for line in _statistic(statistic)),
    ]


def _row(scene: SceneValue) -> tuple[str, ...]:
    verdict = f"{scene.verdict}: {scene.reason}" if scene.reason else scene.verdict
    return (
        scene.sensing_time,
        scene.baseline,
        _number(scene.offset),
        " ".join(_number(pixel.dn) for pixel in scene.source) or "-",
        " ".join(_number(pixel.scl) for pixel in scene.source) or "-",
        _number(scene.harmonised),
        _number(scene.warped),
        f"{verdict}  [{scene.product}]",
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _statistic(statistic: StatisticValue) -> Sequence[str]:
    computed, composite = _number(statistic.computed), _number(statistic.composite)
    line = f"{statistic.name:<12}{computed}"
    if statistic.equal:
        return [f"{line}, equal to the composite's pixel in {statistic.path.name}"]
    first = f"{line}, but the composite's pixel in {statistic.path.name} is {composite}"
    return [first, *(f"{'':12}perhaps because {reason}" for reason in statistic.reasons)]
