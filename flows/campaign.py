"""stub"""

from prefect import flow


@flow(name="campaign")
def campaign(
    bbox: list[float],
    grid_csv: str,
    bands: list[str],
    start: str,
    end: str,
    work_dir: str,
    cells_per_block: int,
    blocks_at_once: int,
    tap: bool,
    count: bool,
    quicklook: bool,
) -> None:
    """Stub."""
