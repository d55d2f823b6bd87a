"""Every recipe for a step or two, on faces that are told apart by their brightness, with a real tracking store."""

import re
import resource
import signal
import subprocess
import time
from pathlib import Path
from random import Random

import pandas as pd
import pytest
import torch
import yaml
from dying import dying
from pytorch_lightning.trainer.connectors.logger_connector.logger_connector import _LoggerConnector
from safetensors.torch import load_file
from tables import write_made_from, write_tables
from training import (
    DATASETS,
    set_param,
    set_scale,
    set_workers,
    stage_arguments,
    stage_command,
    train,
    use_whole_network,
)

from pipeline.errors import PipelineError
from pipeline.networks.checkpoint import Checkpoint, load_checkpoint
from pipeline.params import load_params
from pipeline.registry import tracking
from pipeline.registry.progress import EpochLines
from pipeline.stages.train import _facts
from pipeline.training.model import ExpressionModel
from pipeline.training.parents import Parents, Teachers

# Those that are only compared with take a step in test_options.
VERSIONS = tuple(name for name, recipe in load_params().recipes.items() if recipe.promote)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_recipe_trains_and_leaves_what_the_next_stages_need(workplace, version):
    use_whole_network(workplace, version)
    at_sample = load_params().recipes[version].at_sample.model_dump()
    set_param(workplace, version, at_sample={**at_sample, "epochs": 1}, start_from=[])
    write_tables(workplace, DATASETS, counts={"train": 2, "validation": 1})
    checkpoint = train(workplace, version)
    assert checkpoint.recipe == load_params().recipe(version)
    assert checkpoint.facts["precision"] == "32-true" or torch.cuda.is_available()
    assert 0 <= checkpoint.facts["validation"]["macro_f1"] <= 1
    faces = torch.zeros(2, 64, 64, 3, dtype=torch.uint8)
    assert checkpoint.network()(faces).shape == (2, 7)
    curves = pd.read_csv(workplace / "curves" / f"{version}.csv")
    assert {"epoch", "train/loss", "validation/loss", "validation/macro_f1"} <= set(curves)
    assert len(curves) == checkpoint.facts["epochs"]
    assert curves.notna().all(axis=None)
    assert not list((workplace / "checkpoints").rglob("*.ckpt"))
    run = tracking.find_run(tracking.connect(), version, checkpoint.sha256())
    assert run is not None
    assert run.info.run_name == version
    assert run.data.params["backbone"] == checkpoint.recipe.backbone
    assert {"git_commit", "data_hash", "scale", "precision", "mlflow.source.name"} <= set(run.data.tags)
    assert {"train/loss", "validation/macro_f1", "final/macro_f1"} <= set(run.data.metrics)


def test_a_long_epoch_is_not_silent(workplace, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr("pipeline.registry.progress.SECONDS", 0)
    train(workplace, "v3")
    assert "v3 epoch 1/2: 50 %," in caplog.text


def test_the_same_seed_gives_the_same_weights(workplace):
    first = load_file(train(workplace, "v4").weights)  # which drops out, and changes faces at random
    second = load_file(train(workplace, "v4").weights)
    assert all(torch.equal(first[name], value) for name, value in second.items())


# v6 with SWA and mixup, while it averages the weights.
@pytest.mark.parametrize(("version", "epochs"), [("v3", 2), ("v6", 6)])
def test_an_interrupted_training_goes_on_where_it_stopped_and_ends_the_same(
    workplace, monkeypatch, caplog, version, epochs
):
    caplog.set_level("INFO")
    at_sample = load_params().recipes[version].at_sample.model_dump()
    set_param(workplace, version, at_sample={**at_sample, "epochs": epochs})
    whole = train(workplace, version)
    weights = load_file(whole.weights)

    class PowerCutError(Exception):
        pass

    def cut(self, trainer, *_):
        if trainer.current_epoch == epochs - 1:
            raise PowerCutError

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.registry.progress.EpochLines.on_train_epoch_start", cut)
        with pytest.raises(PowerCutError):
            train(workplace, version)
    caplog.clear()
    client = tracking.connect()
    (experiment,) = client.search_experiments(filter_string="name = 'expression-recipes'")

    def statuses():
        return sorted(run.info.status for run in client.search_runs([experiment.experiment_id]))

    assert statuses() == ["FINISHED", "KILLED"]
    again = train(workplace, version)
    assert statuses() == ["FINISHED", "FINISHED"]
    assert f"epoch {epochs - 1}/{epochs}" not in caplog.text
    assert f"epoch {epochs}/{epochs}" in caplog.text
    assert again.facts["validation"] == pytest.approx(whole.facts["validation"], abs=1e-6)
    others = load_file(again.weights)
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, msg=name)


def test_an_interrupted_training_does_not_go_on_in_another_precision(workplace, monkeypatch, caplog):
    caplog.set_level("INFO")

    def cut(self, trainer, *_):
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EpochLines, "on_train_epoch_start", cut)
        with pytest.raises(PipelineError, match="was interrupted"):
            train(workplace, "v3")
    caplog.clear()
    params = yaml.safe_load((workplace / "params.yaml").read_text())
    params["train"]["precision"] = "bf16-mixed"
    (workplace / "params.yaml").write_text(yaml.safe_dump(params))
    assert train(workplace, "v3").facts["precision"] == "bf16-mixed"
    assert "epoch 1/2" in caplog.text


@pytest.mark.parametrize("version", ["v6", "v8"])
def test_a_training_that_ended_and_was_not_saved_gives_its_weights_when_it_is_resumed(workplace, monkeypatch, version):
    own = load_params().recipes[version].at_sample.model_dump()
    set_param(workplace, version, at_sample={**own, "epochs": 4})
    whole = load_file(train(workplace, version).weights)

    def full(*_):
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.stages.train.save_checkpoint", full)
        with pytest.raises(OSError):  # noqa: PT011
            train(workplace, version)
    again = load_file(train(workplace, version).weights)
    assert all(torch.equal(again[name], value) for name, value in whole.items())


def test_a_kill_right_behind_a_checkpoint_leaves_no_gap_in_the_curves(workplace, monkeypatch):
    class KilledError(Exception):
        pass

    def die(_):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(_LoggerConnector, "update_train_epoch_metrics", die)
        with pytest.raises(KilledError):
            train(workplace, "v3")
    checkpoint = train(workplace, "v3")
    curves = pd.read_csv(workplace / "curves" / "v3.csv")
    assert curves.epoch.tolist() == [0, 1]
    assert curves.notna().all(axis=None)
    client = tracking.connect()
    run = tracking.find_run(client, "v3", checkpoint.sha256())
    points = client.get_metric_history(run.info.run_id, "train/loss")
    assert [point.value for point in points] == pytest.approx(curves["train/loss"].tolist(), abs=1e-5)


def train_v8_without_a_break(workplace):
    """Train v8 for four epochs, whose faces another process prepares: EMA, random changes, mixup and cutmix."""
    set_param(workplace, "v8", at_sample={**load_params().recipes["v8"].at_sample.model_dump(), "epochs": 4})
    set_workers(workplace, 1)
    return load_file(train(workplace, "v8").weights)


def test_ctrl_c_is_answered_in_a_sentence_and_the_training_ends_as_an_unbroken_one_when_it_is_run_again(workplace):
    whole = train_v8_without_a_break(workplace)
    command = dying("train", *stage_arguments("v8"), epochs=2, by=signal.SIGINT)
    process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.returncode == 1
    *before, said = process.stdout.splitlines()
    assert said == (
        "error: the training of v8 was interrupted; run it again, and it goes on behind its last whole epoch"
    )
    assert len(before) >= 2
    assert all(re.match("v8 epoch [12]/4", line) for line in before)  # none of Lightning's own warnings
    again = load_file(train(workplace, "v8").weights)
    for name, value in whole.items():
        torch.testing.assert_close(again[name], value, msg=name)


@pytest.mark.slow
def test_a_killed_training_ends_as_an_unbroken_one(workplace):
    whole = train_v8_without_a_break(workplace)
    killed = subprocess.run(dying("train", *stage_arguments("v8"), epochs=2))
    assert killed.returncode == -signal.SIGKILL
    assert list((workplace / "checkpoints").rglob("last.ckpt"))
    again = load_file(train(workplace, "v8").weights)
    for name, value in whole.items():
        torch.testing.assert_close(again[name], value, msg=name)


def test_a_full_disk_is_told_in_a_sentence_and_the_training_goes_on_once_there_is_room(workplace, monkeypatch):
    whole = load_file(train(workplace, "v3").weights)
    begin, limits = EpochLines.on_train_epoch_start, resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self, trainer, *rest):
        begin(self, trainer, *rest)
        if trainer.current_epoch == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # what a full disk answers

    try:
        with monkeypatch.context() as patch:
            patch.setattr(EpochLines, "on_train_epoch_start", fill)
            with pytest.raises(PipelineError, match="checkpoints/v3/.* can not be written: File too large; make room"):
                train(workplace, "v3")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    again = load_file(train(workplace, "v3").weights)
    for name, value in whole.items():
        torch.testing.assert_close(again[name], value, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_killed_again_and_again_at_any_moment_a_training_ends_as_an_unbroken_one(workplace, version):
    use_whole_network(workplace, version)
    own = load_params().recipes[version].at_sample.model_dump()
    set_param(workplace, version, at_sample={**own, "epochs": 8}, start_from=[])
    set_workers(workplace, 2)
    whole = load_file(train(workplace, version).weights)
    random, lives, code = Random(version), 0, None
    while code != 0:
        lives += 1
        before, doomed = None, random.randint(1, 2)  # epochs in this life
        with subprocess.Popen(
            stage_command(version), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            for line in process.stdout:
                if re.search(r"epoch \d/8: loss", line):
                    now, doomed = time.monotonic(), doomed - 1
                    if not doomed:
                        epoch = now - before if before else 1.0  # what came before the first one is no measure
                        time.sleep(random.uniform(0, epoch))  # in the midst of what comes next
                        process.kill()
                    before = now
        code = process.returncode
    assert lives >= 3
    again = load_file(load_checkpoint(workplace / "models" / version).weights)
    for name, value in whole.items():
        torch.testing.assert_close(again[name], value, msg=name)


@pytest.fixture
def kept_epochs(workplace, monkeypatch):
    """Return a function that trains v3, whose second of three epochs scores best, and tells whose weights are kept."""
    seen, scores = {}, [0.1, 0.9, 0.5]

    def score(self, batch, _):
        seen.setdefault(self.current_epoch, self.network.head[-1].weight.detach().clone())
        names = ("validation/loss", "validation/accuracy", "validation/macro_f1")
        self.log_dict(dict.fromkeys(names, scores[min(self.current_epoch, 2)]), on_step=False, on_epoch=True)

    def run(**changes):
        monkeypatch.setattr(ExpressionModel, "validation_step", score)
        set_param(workplace, "v3", **changes)
        weights = load_file(train(workplace, "v3").weights)["head.0.weight"]
        assert set(seen) >= {0, 1, 2}
        return [number for number in range(3) if torch.equal(weights, seen[number])]

    return run


@pytest.mark.parametrize(("keep", "epoch"), [("best", 1), ("last", 2)])
def test_the_weights_of_the_best_or_the_last_epoch_are_kept(kept_epochs, keep, epoch):
    assert kept_epochs(keep=keep, at_sample={"epochs": 3}) == [epoch]


def test_the_best_epoch_is_kept_where_the_training_stopped_before_it_averaged(kept_epochs, workplace):
    set_scale(workplace, "full")
    small = {"backbone": "convnext_atto", "pretrained": False, "image_size": 32, "augment": []}
    assert kept_epochs(**small, keep="best", epochs=9, patience=1, swa={"start": 0.9}) == [1]


def test_a_version_starts_from_the_parent_with_the_better_validation_score(workplace, caplog):
    set_param(workplace, "v7", optimizer={"name": "sgd", "lr": 1e-12}, at_sample={"epochs": 1})
    parents = {version: train(workplace, version) for version in ("v3", "v6")}
    child = train(workplace, "v7", v3=0.4, v6=0.6)
    assert child.facts["start_from"] == "v6"
    weights, parent = load_file(child.weights), load_file(parents["v6"].weights)
    stem = "backbone.stem.0.weight"
    torch.testing.assert_close(weights[stem], parent[stem])


def test_a_version_is_taught_by_others(workplace, monkeypatch):
    seen = []
    answer = Teachers.answer

    def look(self, pixels):
        seen.append((pixels.min() >= 0, pixels.max() <= 255, answer(self, pixels)))
        return seen[-1][-1]

    monkeypatch.setattr(Teachers, "answer", look)
    set_param(workplace, "v7", start_from=[])
    for version in ("v3", "v7"):
        set_param(workplace, version, at_sample={"epochs": 1})
        train(workplace, version)
    set_param(workplace, "v8", distil={"teachers": ["v3", "v7"], "share": 0.9}, at_sample={"epochs": 1})
    taught = train(workplace, "v8", v3=0.5, v7=0.5)
    assert taught.facts["teachers"] == ["v3", "v7"]
    assert not [name for name in load_file(taught.weights) if "teach" in name]
    for inside, below, told in seen:
        assert inside
        assert below
        torch.testing.assert_close(told.sum(1), torch.ones(len(told)))


@pytest.mark.parametrize("drawn", [False, True])
def test_what_starts_from_weights_that_saw_drawn_faces_has_seen_them(tmp_path, drawn):
    faces, _ = write_tables(tmp_path, drawn=False)
    made_from = write_made_from(tmp_path, "v7")
    params = load_params()
    recipe = params.recipes["v7"].model_copy(update={"data": ("fer2013",)})
    parent = Checkpoint(Path("models/v3"), params.recipes["v3"], {"version": "v3", "drawn": drawn})
    for parents in (Parents(start=parent), Parents(teachers=(parent,))):
        assert _facts("v7", params, recipe, faces, made_from, parents)["drawn"] is drawn
    assert _facts("v7", params, recipe, faces, made_from, Parents())["drawn"] is False


def test_without_its_parents_a_version_is_refused(workplace):
    with pytest.raises(PipelineError, match=r"v7 starts from v3 or v6, but v3 was not trained.*start_from: \[\]"):
        train(workplace, "v7")
    assert not (workplace / "models").exists()


def test_a_loss_that_is_not_finite_stops_the_training_and_leaves_its_batch(workplace):
    set_param(workplace, "v3", optimizer={"name": "sgd", "lr": 1e30})
    with pytest.raises(PipelineError, match=r"the loss is nan at step \d+ in epoch 1; its batch is in .*; set a lower"):
        train(workplace, "v3")
    (file,) = (workplace / "checkpoints").rglob("not-finite.safetensors")
    batch = load_file(file)
    assert (batch["faces"].shape[1:], batch["faces"].dtype) == ((48, 48, 3), torch.uint8)
    assert batch["label_ids"].shape == batch["faces"].shape[:1]
