"""Pictures of a sweep: its history, and which of the varied keys mattered."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from matplotlib import pyplot
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState

ENOUGH = 4  # trials that came to their end, before anything is said about what mattered


def draw_sweep(study: optuna.Study, folder: Path) -> list[Path]:
    """Draw PNG files into a folder: the history, the values that were tried, and the keys' importance (fANOVA).

    The importance of a key is the share of the scores' variance that it explains (Hutter et al. 2014). It takes some
    trials, more than one key, and scores that differ.
    """
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    plots = optuna.visualization.matplotlib
    draws: dict[str, Callable[..., Any]] = {"history": plots.plot_optimization_history, "values": plots.plot_slice}
    if len(done) >= ENOUGH and len(done[0].params) > 1 and len({trial.value for trial in done}) > 1:
        draws["importance"] = plots.plot_param_importances
    files = []
    pyplot.switch_backend("agg")  # Optuna draws with it; there need be no display
    for name, draw in draws.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # all of its pictures are called that
            axes = draw(study)
        figure = (axes.flat[0] if hasattr(axes, "flat") else axes).figure
        files.append(folder / f"{name}.png")
        figure.savefig(files[-1], dpi=110, bbox_inches="tight")
        pyplot.close(figure)
    return files
