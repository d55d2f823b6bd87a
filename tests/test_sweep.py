"""Sweeps with real trainings, small ones, a real tracking store and real processes that die."""

import os
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from dying import dying
from imports import ROOT
from tables import write_tables
from training import set_param, train
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import PipelineError
from pipeline.params import load_params
from pipeline.recipes import Recipe
from pipeline.registry import tracking
from pipeline.sweep.plan import make_plan
from pipeline.sweep.report import command, describe, paste, ranked
from pipeline.sweep.run import run_sweep
from pipeline.sweep.space import parse_vary
from pipeline.sweep.study import locked, next_trial, open_study
from pipeline.training.parents import Parents

PIPELINE = str(Path(sys.executable).with_name("pipeline"))
VARY = ["optimizer.lr=log:1e-3..1e-1", "mixup=0..0.4"]


@pytest.fixture
def place(workplace):  # noqa: F811
    """The folder of a stage, with faces and a narrow network."""
    write_tables(workplace)
    args = {"channels": [8, 8, 16, 16], "stem_type": "deep", "stem_width": 8}
    set_param(workplace, "v8", backbone_args=args)
    return workplace


def plan_of(*vary, trials=3, name=None, **settings):
    params = load_params()
    settings = params.sweep.model_copy(update={"trials": trials, **settings})
    return make_plan(params, "v8", parse_vary(vary or VARY), settings, name)


def runs():
    """Return the sweep's run, and those of its trials, oldest first."""
    client = tracking.connect()
    experiment = client.get_experiment_by_name(tracking.SWEEPS)
    found = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])
    (parent,) = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in found if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} <= {parent.info.run_id}
    return parent, children


def test_trials_are_child_runs_and_the_best_of_them_is_what_is_reported(place):
    plan = plan_of()
    study = run_sweep(plan)
    parent, children = runs()
    assert [run.info.run_name for run in children] == ["v8 trial 0", "v8 trial 1", "v8 trial 2"]
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    for run in children:
        assert set(run.data.params) == {"optimizer.lr", "mixup"}
        assert {"train/loss", "validation/macro_f1", "final/macro_f1"} <= set(run.data.metrics)
        assert len(tracking.connect().get_metric_history(run.info.run_id, "validation/macro_f1")) == 2
    assert children[0].data.params == {"optimizer.lr": "0.003", "mixup": "0.2"}  # the recipe as it is
    best = max(children, key=lambda run: run.data.metrics["final/macro_f1"])
    assert ranked(study)[0].value == parent.data.metrics["best/macro_f1"] == best.data.metrics["final/macro_f1"]
    assert parent.data.tags["best/mixup"] == best.data.params["mixup"]
    said = describe(study, plan)
    assert f"{best.data.metrics['final/macro_f1']:.4f}" in said
    files = {file.path for file in tracking.connect().list_artifacts(parent.info.run_id)}
    assert files == {"plots", "best.yaml"}
    assert not list(place.rglob("*.ckpt"))

    recipes = tracking.connect().get_experiment_by_name(tracking.EXPERIMENT)
    assert recipes.experiment_id == "1"  # the README's address of the comparison of versions, of which these are none
    assert tracking.connect().search_runs([recipes.experiment_id]) == []
    assert not (place / "models").exists()

    again = run_sweep(plan)  # has nothing left to do
    assert describe(again, plan) == said
    assert len(runs()[1]) == 3
    assert len(run_sweep(plan_of(trials=4)).trials) == 4  # more of the same


def test_what_is_printed_makes_the_trial_a_version(place):
    vary = ["optimizer.lr=log:1e-3..1e-1", "schedule.0.warm_up=0.05..0.5", "clip_gradients=1..2"]
    plan = plan_of(*vary)
    values = {"optimizer.lr": 0.05, "schedule.0.warm_up": 0.2, "clip_gradients": 1.5}
    pasted = yaml.safe_load(paste(plan, values))["recipes"]["v8"]
    assert pasted == {
        "optimizer": {"name": "muon", "lr": 0.05, "weight_decay": 0.1},
        "schedule": [{"name": "one_cycle", "warm_up": 0.2}],
        "clip_gradients": 1.5,
    }
    raw = yaml.safe_load((place / "params.yaml").read_text())
    assert Recipe.model_validate({**raw["recipes"]["v8"], **pasted}).at("sample") == plan.recipe(values)

    words = shlex.split(command(plan, values))
    assert words[:3] == ["dvc", "exp", "run"]
    # What `dvc exp run` does with -S.
    apply_overrides(place / "params.yaml", [word for word in words[3:] if word != "-S"])
    params = load_params()
    assert (params.recipe("v8"), params.run) == (plan.recipe(values), ("v8",))


@pytest.mark.slow
def test_a_killed_sweep_goes_on_where_it_stopped_and_ends_the_same(place, caplog):
    caplog.set_level("INFO")
    whole = run_sweep(plan_of(name="whole"))
    order = ["sweep", "v8", "--trials", "3", *(word for vary in VARY for word in ("--vary", vary))]
    killed = subprocess.run(dying("pipeline", *order, epochs=3))  # in the midst of the second trial
    assert killed.returncode == -signal.SIGKILL
    caplog.clear()
    plan = plan_of()
    again = run_sweep(plan)
    assert "v8 trial 0" not in caplog.text
    assert "v8 trial 1 epoch 1/2" not in caplog.text
    assert [trial.params for trial in again.trials] == [trial.params for trial in whole.trials]
    assert [trial.value for trial in again.trials] == pytest.approx([trial.value for trial in whole.trials])
    assert again.trials[1].intermediate_values == pytest.approx(whole.trials[1].intermediate_values)
    client = tracking.connect()
    experiment = client.get_experiment_by_name(tracking.SWEEPS)
    found = client.search_runs([experiment.experiment_id], f"tags.sweep = '{plan.name}'")
    assert len(found) == 4
    assert {run.info.status for run in found} == {"FINISHED"}


def test_ctrl_c_is_a_sentence_and_the_trial_waits(place, monkeypatch):
    def press(self, trainer, *_):
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt

    plan = plan_of(trials=1)
    usual = signal.getsignal(signal.SIGINT)  # Lightning ignores it from then on
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.registry.progress.EpochLines.on_train_epoch_start", press)
        with pytest.raises(PipelineError, match="was interrupted; the same command goes on"):
            run_sweep(plan)
    signal.signal(signal.SIGINT, usual)
    assert [run.info.status for run in (runs()[0], *runs()[1])] == ["KILLED", "KILLED"]
    assert run_sweep(plan).trials[0].state.name == "COMPLETE"
    assert [run.info.status for run in (runs()[0], *runs()[1])] == ["FINISHED", "FINISHED"]


@pytest.mark.slow
def test_two_processes_share_the_trials(place):
    order = [PIPELINE, "sweep", "v8", "--trials", "6", *(word for vary in VARY for word in ("--vary", vary))]
    both = [subprocess.Popen(order, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    parent, children = runs()
    assert sorted(run.info.run_name for run in children) == [f"v8 trial {number}" for number in range(6)]
    assert parent.info.status == "FINISHED"
    for number in range(6):  # each was trained by one of them, once
        assert sum(text.count(f"v8 trial {number} epoch 2/2") for text in said) <= 1
    assert all("v8 trial" in text for text in said)


def test_what_can_not_be_trained_fails_its_trial_and_not_the_sweep(place):
    set_param(place, "v8", ema=None)
    plan = plan_of("optimizer.lr=[0.003, 1e30]", "swa=[null, {start: 0.5}]", "ema=[null, {decay: 0.9}]")
    study = open_study(plan)  # begins with the recipe as it is
    study.enqueue_trial({"optimizer.lr": 1e30, "swa": "null", "ema": "null"})
    study.enqueue_trial({"optimizer.lr": 0.003, "swa": '{"start": 0.5}', "ema": '{"decay": 0.9}'})
    study = run_sweep(plan)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "FAIL"]
    assert "the loss is nan" in study.trials[1].user_attrs["why"]
    assert "swa and ema both average the weights" in study.trials[2].user_attrs["why"]
    assert [run.info.status for run in runs()[1]] == ["FINISHED", "FAILED", "FAILED"]
    assert "1 complete, 2 fail" in describe(study, plan)


def test_what_can_not_be_built_fails_its_trial_and_not_the_sweep(place):
    plan = plan_of("backbone=[resnet18, mobilenetv2_100]", trials=2)  # the arguments are ResNet's
    open_study(plan).enqueue_trial({"backbone": "mobilenetv2_100"})
    study = run_sweep(plan)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL"]
    assert "backbone_args: mobilenetv2_035 does not take" in study.trials[1].user_attrs["why"]


def test_what_does_not_fit_its_parent_fails_its_trial_and_not_the_sweep(place):
    plan = replace(plan_of("colour=[grey, rgb]", trials=2), parents=Parents(train(place, "v8")))
    open_study(plan).enqueue_trial({"colour": "rgb"})
    study = run_sweep(plan)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL"]
    assert "has another backbone than the version that shall start from it" in study.trials[1].user_attrs["why"]


def test_a_trial_that_died_while_its_values_were_drawn_is_given_up(place):
    plan = plan_of(trials=2)
    half = open_study(plan).ask()
    half.suggest_float("mixup", 0, 0.4)
    study = run_sweep(plan)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE"]
    assert study.trials[0].user_attrs["why"] == "its process died while its values were drawn"


def test_a_trial_that_another_process_ends_meanwhile_is_not_taken(place, monkeypatch):
    plan = plan_of()
    study = open_study(plan)
    with next_trial(study, plan) as begun:
        pass
    lock = locked

    def ended_first(file, **how):
        if file.parent.name == str(begun.number) and study.trials[begun.number].state.name == "RUNNING":
            study.tell(begun.number, 0.5)
        return lock(file, **how)

    monkeypatch.setattr("pipeline.sweep.study.locked", ended_first)
    with next_trial(study, plan) as following:
        assert following.number == begun.number + 1


def test_without_one_good_trial_the_sweep_says_why(place):
    plan = plan_of("mixup=0.3..0.4")
    study = open_study(plan)
    failed = {"state": optuna.trial.TrialState.FAIL, "user_attrs": {"why": "the loss is nan"}}
    study.add_trial(optuna.trial.create_trial(**failed))
    with pytest.raises(PipelineError, match=r"no trial that came to its end \(1 fail\); the last one: the loss is nan"):
        describe(study, plan)


def test_a_hopeless_trial_is_pruned(place):
    plan = plan_of("mixup=0.3..0.4", trials=5)
    study = open_study(plan)
    for number in range(4):
        curve = dict.fromkeys(range(2), 0.9)
        drawn = {"mixup": 0.3 + number / 100}
        study.add_trial(
            optuna.trial.create_trial(
                value=0.9, params=drawn, distributions=plan.space.distributions, intermediate_values=curve
            )
        )
    study = run_sweep(plan)
    assert study.trials[4].state.name == "PRUNED"
    (run,) = runs()[1]
    assert (run.info.status, run.data.tags["state"]) == ("FINISHED", "pruned")
    assert run.data.tags["why"] == "pruned after 1 of 2 epochs"
    assert "final/macro_f1" not in run.data.metrics


def test_another_space_is_another_sweep(place):
    assert plan_of("mixup=0..0.4").name != plan_of("mixup=0..0.3").name
    assert plan_of("mixup=0..0.4").name != plan_of("mixup=0..0.4", epochs=1).name
    assert plan_of("mixup=0..0.4").name == plan_of("mixup=0..0.4", trials=9).name
    open_study(plan_of("mixup=0..0.4", name="mine"))
    with pytest.raises(PipelineError, match=r"sweeps/mine.db holds a sweep of another space.*choose another --study"):
        open_study(plan_of("mixup=0..0.3", name="mine"))


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (["v8", "--vary", "mixup=0..0.4"], "data/splits.parquet is missing; run `dvc repro validate`"),
        (["v8"], "nothing is varied"),
        (["v99", "--vary", "mixup=0..0.4"], "there is no recipe 'v99'"),
        (["v8", "--vary", "mixup=0..0.4", "--study", "../mine"], "--study ../mine: a name is made of letters"),
        (["v8", "--vary", "epochs=2..4", "--epochs", "2"], "--epochs and --vary epochs contradict each other"),
    ],
)
def test_bad_orders_are_one_sentence(order, words, workplace):  # noqa: F811
    done = CliRunner(env={**os.environ}).invoke(app, ["sweep", *order])
    assert done.exit_code == 1
    assert done.output.startswith("error: ")
    assert "\n" not in done.output.strip()
    assert words in done.output
    assert not (workplace / "sweeps").exists()


def test_a_recipe_that_reads_clips_is_not_swept(workplace):  # noqa: F811
    with pytest.raises(PipelineError, match="recipes.cnn_lstm reads clips; a sweep is for recipes that read faces"):
        make_plan(load_params(ROOT / "params.yaml"), "cnn_lstm", parse_vary(VARY), load_params().sweep, None)


def test_space_and_seeds_may_stand_in_params_yaml(place):
    content = yaml.safe_load((place / "params.yaml").read_text())
    content["sweep"] = {"trials": 1, "epochs": 1, "seeds": 2, "vary": {"mixup": "0..0.4"}}
    (place / "params.yaml").write_text(yaml.safe_dump(content))
    done = CliRunner().invoke(app, ["sweep", "v8"])
    assert done.exit_code == 0, done.output
    assert "1 complete" in done.output
    assert "dvc exp run -S recipes.v8.mixup=0.2 -S 'run=[v8]'" in done.output
    (run,) = runs()[1]
    histories = [
        tracking.connect().get_metric_history(run.info.run_id, key)
        for key in ("validation/macro_f1", "seed_1/validation/macro_f1")
    ]
    assert [len(history) for history in histories] == [1, 1]  # an epoch
    last = [history[-1].value for history in histories]
    assert run.data.metrics["final/macro_f1"] == pytest.approx(sum(last) / 2)
