"""What a sweep can be told to vary, and what it answers where that is nonsense."""

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from pipeline.errors import PipelineError
from pipeline.params import load_params
from pipeline.sweep.keys import change
from pipeline.sweep.space import Space, parse_vary

RECIPE = load_params().recipes["v8"]


def space(*given, scale="full"):
    return Space(RECIPE, parse_vary(given), scale)


@pytest.mark.parametrize(
    ("given", "distribution"),
    [
        ("optimizer.lr=log:1e-3..3e-1", FloatDistribution(1e-3, 0.3, log=True)),
        ("mixup=0..1", FloatDistribution(0, 1)),
        ("mixup=0...4", FloatDistribution(0, 0.4)),
        ("batch_size=32..256", IntDistribution(32, 256)),
        ("batch_size=log:32..256", IntDistribution(32, 256, log=True)),
        ("patience=2..5", IntDistribution(2, 5)),
        ("schedule.0.warm_up=0.05..0.3", FloatDistribution(0.05, 0.3)),
        ("augment.2.RandomCrop.height=40..44", IntDistribution(40, 44)),
        ("loss.label_smoothing=[0, 0.1, 1e-2]", CategoricalDistribution([0.0, 0.1, 0.01])),
        ("optimizer.name=[sgd, adamw]", CategoricalDistribution(["sgd", "adamw"])),
        ("ema=[null, {decay: 0.99}]", CategoricalDistribution(["null", '{"decay": 0.99}'])),
    ],
)
def test_range_or_list(given, distribution):
    assert list(space(given).distributions.values()) == [distribution]


def test_values_stand_in_the_recipe_as_they_were_drawn_but_with_few_digits():
    varied = space("optimizer.lr=log:1e-3..3e-1", "ema=[null, {decay: 0.99}]", "schedule.0.warm_up=0.05..0.3")
    values = varied.values({"optimizer.lr": 0.123456, "ema": "null", "schedule.0.warm_up": 0.2})
    assert values == {"optimizer.lr": 0.1235, "ema": None, "schedule.0.warm_up": 0.2}
    recipe = change(RECIPE, values)
    assert (recipe.optimizer.lr, recipe.ema, recipe.schedule[0].warm_up) == (0.1235, None, 0.2)
    assert (recipe.optimizer.weight_decay, recipe.augment) == (RECIPE.optimizer.weight_decay, RECIPE.augment)


def test_digits_do_not_lead_out_of_the_range():
    assert space("mixup=0..0.33333").values({"mixup": 0.333329}) == {"mixup": 0.3333}
    assert space("mixup=0..0.12345").values({"mixup": 0.123449}) == {"mixup": 0.1234}
    assert space("mixup=0.00012346..0.1").values({"mixup": 0.00012346}) == {"mixup": 0.0001235}
    assert space("mixup=0..0.123456").values({"mixup": 0.123456}) == {"mixup": 0.123456}


def test_recipe_itself_is_a_point_of_the_space_or_not():
    assert space("mixup=0..0.4", "ema=[null, {decay: 0.999}]").of_recipe() == {"mixup": 0.2, "ema": '{"decay": 0.999}'}
    assert space("mixup=0.3..0.4").of_recipe() is None
    assert space("clip_gradients=1..2").of_recipe() is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["optimzer.lr=0.1..0.2"], "optimzer is not a known key (did you mean optimizer?)"),
        (["optimizer.lrr=0.1..0.2"], "optimizer.lrr is not a known key"),
        (["optimizer.lr=-1..0.2"], "optimizer.lr: input should be greater than 0, got -1"),
        (["batch_size=32.5..64"], "batch_size: input should be a valid integer"),
        (["optimizer.name=[sgd, adamm]"], "optimizer.name: input should be 'adam'"),
        (["backbone=[resnet18, resnet81]"], "timm has no backbone 'resnet81'"),
        (["augment.2.RandomCorp.height=[40]"], "RandomCorp"),
        (["schedule.3.warm_up=0.1..0.2"], "'3' is none of the places 0 to 0 of the list"),
        (["mixup=0.1"], "'0.1' is no range; write low..high, log:low..high, or a list"),
        (["mixup=a..b"], "'a..b' is no range"),
        (["mixup=0.4..0.1"], "the lower end must be a number below the upper one"),
        (["mixup=0..inf"], "the lower end must be a number below the upper one"),
        (["mixup=log:0..1"], "begins above 0"),
        (["mixup=[]"], "the list is empty"),
        (["mixup=[0, 1"], "is no list that YAML can read"),
        (["mixup"], "there is no key and value; write KEY=VALUES"),
        (["mixup=0..1", "mixup=0..2"], "mixup stands there twice"),
        (["data=[[fer2013], [rafdb]]"], "it can not be varied: scores on other faces do not compare"),
        (["leave_out=[[], [fear]]"], "it can not be varied: scores on other faces do not compare"),
        (["one_against_rest=[null, happy]"], "it can not be varied: scores on other classes do not compare"),
        (["tta=[none, flip]"], "makes no difference to the validation score"),
        (["swa=[{start: 0.5}]"], "swa and ema both average the weights"),
        ([], "nothing is varied"),
    ],
)
def test_nonsense_is_one_sentence(given, words):
    with pytest.raises(PipelineError) as error:
        space(*given)
    assert words in str(error.value)


def test_what_the_scale_overrules_is_refused():
    with pytest.raises(PipelineError, match="batch_size makes no difference .* at scale: sample, where `at_sample`"):
        space("batch_size=[64, 128]", scale="sample")
    space("at_sample.batch_size=[8, 16]", scale="sample")
    space("batch_size=[64, 128]", scale="full")


def test_ranges_in_params_yaml_are_no_times_of_day(write_params):
    file = write_params({"sweep": {"vary": {"mixup": "0..0.4", "epochs": "10..40"}}})
    vary = load_params(file).sweep.vary
    assert Space(RECIPE, vary, "full").distributions["epochs"] == IntDistribution(10, 40)
