"""What a sweep says at its end: its best trials, and how to make the best one a version."""

import json
import math
import shlex
from typing import Any

import optuna
import pandas as pd
import yaml
from optuna.trial import FrozenTrial, TrialState

from pipeline.errors import PipelineError
from pipeline.sweep.keys import change, look_up, put
from pipeline.sweep.plan import Plan

SHOWN = 5  # of the best trials


def describe(study: optuna.Study, plan: Plan) -> str:
    """Return the report as text: counts, a table of the best trials, the YAML to paste, and DVC's command line.

    Raises:
        PipelineError: if no trial came to its end.
    """
    best = ranked(study)
    trials = study.get_trials(deepcopy=False)
    states = [state.name.lower() for state in TrialState if state != TrialState.WAITING]
    counts = {name: sum(trial.state.name.lower() == name for trial in trials) for name in states}
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    if not best:
        last = next((trial.user_attrs["why"] for trial in reversed(trials) if trial.user_attrs.get("why")), "none yet")
        raise PipelineError(f"the sweep {plan.name} has no trial that came to its end ({said}); the last one: {last}")
    values = plan.space.values(best[0].params)
    return "\n".join(
        [
            f"\nsweep {plan.name}: {said}; validation macro-F1 of the best:\n",
            _table(best, plan),
            f"\nto keep trial {best[0].number}, put this into params.yaml:\n",
            paste(plan, values),
            "or train it as it is:\n",
            command(plan, values),
        ]
    )


def ranked(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that came to their end, the best first; of equals, the earlier."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return sorted(done, key=lambda trial: (-(trial.value or 0), trial.number))


def _table(best: list[FrozenTrial], plan: Plan) -> str:
    rows = [
        {"trial": trial.number, "macro_f1": f"{trial.value:.4f}", **_flat(plan.space.values(trial.params))}
        for trial in best[:SHOWN]
    ]
    return pd.DataFrame(rows).to_string(index=False)


def paste(plan: Plan, values: dict[str, Any]) -> str:
    """Return the lines of the recipe that change, as YAML: each of its own keys whole."""
    changed = plan.space.recipe.model_dump(mode="json", exclude_unset=True)
    for key, value in values.items():
        put(changed, key, value)
    block = {name: changed[name] for name in dict.fromkeys(key.split(".")[0] for key in values)}
    return yaml.safe_dump({"recipes": {plan.version: block}}, sort_keys=False, default_flow_style=None, width=110)


def command(plan: Plan, values: dict[str, Any]) -> str:
    """Return the command line that trains a recipe with these values as the version itself, and judges it."""
    as_written = plan.space.recipe.model_dump(mode="json", exclude_unset=True)
    changed = change(plan.space.recipe, values).model_dump(mode="json")
    settings = {}
    for key, value in values.items():
        # Hydra, which reads them for DVC, has no key for a place in a list.
        whole = next((key[: key.index(f".{part}")] for part in key.split(".") if part.isdigit()), key)
        plus = "" if look_up(as_written, whole) is not None else "++"
        settings[f"{plus}recipes.{plan.version}.{whole}"] = look_up(changed, whole) if whole != key else value
    if plan.version not in plan.params.run:
        settings["run"] = [*plan.params.run, plan.version] if plan.space.recipe.parents else [plan.version]
    words = [shlex.quote(f"{key}={_hydra(value)}") for key, value in settings.items()]
    return "dvc exp run " + " ".join(f"-S {word}" for word in words)


def _hydra(value: Any) -> str:
    if isinstance(value, dict | list):
        return yaml.safe_dump(value, sort_keys=False, default_flow_style=True, width=math.inf).strip()
    return value if isinstance(value, str) else json.dumps(value)


def _flat(values: dict[str, Any]) -> dict[str, str]:
    return {key: f"{value:g}" if isinstance(value, float) else str(value) for key, value in values.items()}
