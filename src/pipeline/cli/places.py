"""Where the commands find what the stages made (dvc.yaml owns these paths), and options that several of them take."""

from pathlib import Path
from typing import Annotated

import typer

RAW = Path("data/raw")  # where downloads go
PAGE = Path("reports/versions.html")
POINTER = Path("models/champion.json")
CORRECTIONS = Path("data/corrections.csv")
METRICS, ZOO = Path("metrics"), Path("reports/zoo")
PROMOTION, PACKAGE = METRICS / "promotion.json", METRICS / "package.json"
ParamsFile = Annotated[Path, typer.Option("--params", help="the file of the parameters")]
