import math

import pytest
import torch
from timm.optim import muon

from pipeline.networks.network import ExpressionNetwork
from pipeline.recipes import Recipe
from pipeline.training.optimization import OPTIMIZERS, build_optimizer, build_schedule

STEPS, EPOCHS = 100, 10


def recipe(*schedule, **optimizer):
    return Recipe.model_validate(
        {
            "data": ["fer2013"],
            "backbone": "convnext_atto",
            "pretrained": False,
            "epochs": EPOCHS,
            "optimizer": {"lr": 1.0, **optimizer},
            "schedule": list(schedule),
        }
    )


def rates(*schedule, steps=STEPS):
    """Return the learning rate before each step of a run."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    built = build_schedule(optimizer, recipe(*schedule), steps, batches=10)
    assert built is not None
    assert built["interval"] == "step"
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        built["scheduler"].step()
    return seen


def test_backbone_and_head_have_the_rates_of_the_recipe():
    network = ExpressionNetwork(recipe())
    optimizer = build_optimizer(network, recipe(lr=1e-3, backbone_lr=1e-4, weight_decay=0.01).optimizer)
    assert {group["name"]: group["lr"] for group in optimizer.param_groups} == {"head": 1e-3, "backbone": 1e-4}
    assert all(group["weight_decay"] == 0.01 for group in optimizer.param_groups)


def test_frozen_parameters_are_not_optimized():
    network = ExpressionNetwork(recipe())
    network.freeze("none")
    optimizer = build_optimizer(network, recipe().optimizer)
    assert [group["name"] for group in optimizer.param_groups] == ["head"]


def test_cosine_falls_to_its_minimum_within_the_run():
    seen = rates({"name": "cosine", "minimum_lr": 0.1})
    assert seen[0] == 1
    assert seen[50] == pytest.approx(0.55, abs=0.01)
    assert seen[-1] == pytest.approx(0.1, abs=0.01)


def test_cosine_with_a_period_turns_back_up():
    seen = rates({"name": "cosine", "period": 5})
    assert seen[50] == pytest.approx(0, abs=1e-6)
    assert seen[-1] > 0.9


def test_warm_restarts_start_anew_after_growing_periods():
    seen = rates({"name": "warm_restarts", "period": 2, "growth": 2})
    assert [step for step in range(1, STEPS) if seen[step] > seen[step - 1]] == [20, 60]


def test_one_cycle_rises_and_falls():
    seen = rates({"name": "one_cycle", "warm_up": 0.3})
    assert seen[0] == pytest.approx(1 / 25)
    assert max(range(STEPS), key=seen.__getitem__) == pytest.approx(30, abs=1)
    assert seen[-1] < 0.01


def test_phases_follow_each_other_each_from_the_full_rate():
    seen = rates({"name": "one_cycle", "share": 0.5}, {"name": "warm_restarts", "period": 5, "share": 0.5})
    assert seen[0] == pytest.approx(1 / 25)
    assert seen[49] < 0.02
    assert seen[50] == pytest.approx(1)
    assert seen[75] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("first", ["constant", "cosine"])
def test_one_cycle_rises_behind_another_phase_too(first):
    seen = rates({"name": first, "share": 0.5}, {"name": "one_cycle", "share": 0.5, "warm_up": 0.3})
    assert seen[50] == pytest.approx(1 / 25)
    assert max(range(51, STEPS), key=seen.__getitem__) == pytest.approx(65, abs=1)
    assert seen[-1] < 0.02


@pytest.mark.parametrize("steps", [10, 97, 1002])
def test_phases_whose_steps_are_no_whole_numbers_fill_the_run(steps):
    quarters = [{"name": "constant", "share": 0.25}] * 3 + [{"name": "one_cycle", "share": 0.25}]
    seen = rates(*quarters, steps=steps)
    assert [step for step in range(1, steps) if seen[step] < seen[step - 1]][0] == round(0.75 * steps)


@pytest.mark.parametrize("warm_up", [0.02, 0.3])
def test_one_cycle_is_torchs(warm_up):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    torchs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, STEPS + 1, pct_start=warm_up, cycle_momentum=False)
    seen = []
    for _ in range(STEPS):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        torchs.step()
    assert rates({"name": "one_cycle", "warm_up": warm_up}) == pytest.approx(seen)


def test_rate_stays_and_then_falls_by_a_factor_an_epoch():
    seen = rates({"name": "constant", "share": 0.2}, {"name": "exponential", "decay": 0.1, "share": 0.8})
    assert seen[:21] == pytest.approx([1.0] * 21)
    assert seen[30] == pytest.approx(math.exp(-0.1))
    assert seen[-1] == pytest.approx(math.exp(-0.1 * 79 / 10))


def test_optimizer_is_the_one_that_the_recipe_names():
    network = ExpressionNetwork(recipe())
    built = {name: type(build_optimizer(network, recipe(name=name).optimizer)).__name__ for name in OPTIMIZERS}
    assert built == {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "rmsprop": "RMSprop", "muon": "Muon"}


def test_muon_turns_every_direction_of_a_convolution_alike():
    network = ExpressionNetwork(recipe())
    weight = next(parameter for parameter in network.backbone.parameters() if parameter.dim() == 4)
    before = weight.detach().clone()
    weight.grad = torch.randn_like(weight) * torch.logspace(0, -1.5, len(weight)).reshape(-1, 1, 1, 1)
    build_optimizer(network, recipe(name="muon").optimizer).step()
    given, taken = (torch.linalg.svdvals(step.flatten(1)) for step in (weight.grad, weight.detach() - before))
    assert given.max() / given.min() > 20
    assert taken.max() / taken.min() < 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes in bfloat16 as fast")
@pytest.mark.parametrize("able", [{}, {"avx512_bf16": True}], ids=["without", "with"])
def test_muon_computes_in_bfloat16_only_on_a_cpu_that_has_it(able: dict[str, bool], monkeypatch: pytest.MonkeyPatch):
    timms = muon.zeropower_via_newtonschulz
    monkeypatch.setattr(muon, "zeropower_via_newtonschulz", getattr(timms, "func", timms))  # perhaps changed already
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    build_optimizer(ExpressionNetwork(recipe()), recipe(name="muon").optimizer)
    update = muon.zeropower_via_newtonschulz(torch.randn(8, 16), 5, [(3.4445, -4.775, 2.0315)] * 5)
    assert torch.equal(update, update.bfloat16().float()) == bool(able)


def test_plateau_follows_the_validation_loss():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    built = build_schedule(optimizer, recipe({"name": "plateau", "factor": 0.5, "patience": 1}), STEPS, batches=10)
    assert built is not None
    assert built["monitor"] == "validation/loss"
    for loss in (1.0, 1.0, 1.0):
        built["scheduler"].step(loss)
    assert optimizer.param_groups[0]["lr"] == 0.5
