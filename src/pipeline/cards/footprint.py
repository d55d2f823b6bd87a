"""What a training cost: the time of its devices, and from that, by stated assumptions, energy and carbon.

Nothing is measured but the time, as in Lacoste et al. 2019, "Quantifying the Carbon Emissions of Machine Learning".
"""

from typing import Any

from pipeline.params import CardParams

HOUR, KILO = 3600, 1000


def estimate_footprint(seconds: float, processes: int, device: str, params: CardParams) -> dict[str, Any]:
    """Estimate what a training cost.

    Args:
        seconds: that it took.
        processes: that trained together, a device each.
        device: `cpu`, or a GPU's name.
        params: the assumptions.

    Returns:
        `seconds, processes, device, device_seconds`; the assumptions `watts` (a device) and `grams_per_kwh`; and what
        follows from them, `kwh` and `kg_co2e`.
    """
    watts = params.cpu_watts if device == "cpu" else params.gpu_watts
    kwh = seconds * processes / HOUR * watts / KILO
    return {
        "seconds": seconds,
        "processes": processes,
        "device": device,
        "device_seconds": seconds * processes,
        "watts": watts,
        "grams_per_kwh": params.grams_per_kwh,
        "kwh": kwh,
        "kg_co2e": kwh * params.grams_per_kwh / KILO,
    }
