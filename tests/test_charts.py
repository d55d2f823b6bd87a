import pytest

from pipeline.pages.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, line_chart, short


def points(chart, name):
    return [tuple(map(float, point.split(","))) for point in chart.lines[name].split()]


def test_lines_run_over_the_whole_width_from_0_at_the_bottom_to_the_top():
    chart = line_chart("loss", [1, 2, 3], {"train": [0, 1, 2]}, top=2, best=2)
    middle = (TOP + HEIGHT - BOTTOM) / 2
    centre = (LEFT + WIDTH - RIGHT) / 2
    assert points(chart, "train") == [(LEFT, HEIGHT - BOTTOM), (centre, middle), (WIDTH - RIGHT, TOP)]
    assert chart.best == (WIDTH - RIGHT, TOP, "best epoch 3")
    assert (HEIGHT - BOTTOM, "0") in chart.rows


def test_what_is_higher_than_the_top_is_drawn_at_it():
    chart = line_chart("loss", [1, 2], {"train": [50, 1]}, top=4, best=1, level=(9, "guessing"))
    assert points(chart, "train")[0][1] == TOP
    assert chart.level is None
    assert all(TOP <= y <= HEIGHT - BOTTOM for y, _ in chart.rows)


def test_each_epoch_says_its_values():
    chart = line_chart(
        "loss", [1, 2], {"train": [2, 1], "validation": [2.5, 0.0005]}, top=4, best=1, level=(2, "guessing")
    )
    assert [said for _, _, said in chart.strips] == [
        "epoch 1: train 2, validation 2.5",
        "epoch 2: train 1, validation 5e-4",
    ]
    assert chart.level is not None
    assert {label for _, label in chart.columns} == {"1", "2"}


def test_a_training_of_one_epoch_is_a_point_in_the_middle():
    chart = line_chart("loss", [1], {"train": [2]}, top=4, best=0)
    assert chart.best[0] == points(chart, "train")[0][0] == (LEFT + WIDTH - RIGHT) / 2


@pytest.mark.parametrize(
    ("value", "said"), [(0, "0"), (0.25, "0.25"), (12, "12"), (1e-4, "1e-4"), (0.00075, "7.5e-4"), (2e-12, "2e-12")]
)
def test_numbers_are_short(value, said):
    assert short(value) == said
