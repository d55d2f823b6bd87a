"""The page of a window beside its reference: one self-contained HTML file, and its numbers as JSON beside it."""

from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.files import write_json, written_whole
from pipeline.monitoring.drift import SHARE_LOST
from pipeline.monitoring.monitor import Watched
from pipeline.pages.templates import render_page
from pipeline.params import MonitorParams


def write_page(file: Path, watched: Watched, params: MonitorParams) -> None:
    """Write the page, and beside it a JSON file of the same name.

    Raises:
        PipelineError: if the page's name is that of the JSON file.
    """
    beside = file.with_suffix(".json")
    if beside == file:
        raise PipelineError(f"{file} can not be the page: a JSON file of this name is written beside it; call it .html")
    page = render_page("monitor.html.j2", watched=watched, params=params, share_lost=SHARE_LOST)
    with written_whole(file) as partial:
        partial.write_text(page, encoding="utf-8")
    write_json(beside, watched.describe() | {"params": params.model_dump()})
