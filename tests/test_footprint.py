import pytest

from pipeline.cards.footprint import estimate_footprint
from pipeline.params import CardParams

PARAMS = CardParams(cpu_watts=100, gpu_watts=700, grams_per_kwh=500)


def test_it_is_hours_times_watts_times_grams() -> None:
    found = estimate_footprint(1800, 4, "cpu", PARAMS)
    assert (found["device_seconds"], found["watts"], found["grams_per_kwh"]) == (7200, 100, 500)
    assert (found["kwh"], found["kg_co2e"]) == (pytest.approx(0.2), pytest.approx(0.1))


def test_a_gpu_draws_what_a_gpu_draws() -> None:
    assert estimate_footprint(3600, 1, "NVIDIA H100", PARAMS)["kwh"] == pytest.approx(0.7)
