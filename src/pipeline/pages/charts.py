"""Line charts as numbers for a page's SVG: scales, ticks and points, so that a template has only to put them down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT = 270, 118
LEFT, RIGHT, TOP, BOTTOM = 34, 8, 8, 20  # room for the labels


@dataclass(frozen=True)
class Chart:
    """A chart of a few lines over epochs; all places are in the pixels of its own WIDTH and HEIGHT."""

    title: str
    lines: dict[str, str]  # by name: the points as SVG's polyline takes them
    rows: list[tuple[float, str]]  # ticks of the values: y, label
    columns: list[tuple[float, str]]  # ticks of the epochs: x, label
    best: tuple[float, float, str]  # x and y of what is marked, and what it says
    strips: list[tuple[float, float, str]]  # an epoch each: x and width of where it says its values
    level: tuple[float, str] | None  # y of a level to compare with, and its name


def line_chart(
    title: str,
    epochs: Sequence[int],
    lines: Mapping[str, Sequence[float]],
    *,
    top: float,
    best: int,
    level: tuple[float, str] | None = None,
) -> Chart:
    """Lay out a chart whose values begin at 0.

    Args:
        title: what it shows.
        epochs: their numbers, ascending.
        lines: by name, a value an epoch; the mark is put on the last one.
        top: the highest value that is shown; higher ones are drawn at it.
        best: the place of the epoch to mark, from 0.
        level: a value to compare with and its name, left out where it is higher than `top`.
    """
    first, last = epochs[0], epochs[-1]
    step = (WIDTH - LEFT - RIGHT) / max(1, last - first)

    def x(epoch: float) -> float:
        return round(LEFT + (epoch - first) * step if last > first else (LEFT + WIDTH - RIGHT) / 2, 1)

    def y(value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(value, top) / top), 1)

    said = [
        f"epoch {epoch}: " + ", ".join(f"{name} {short(values[row])}" for name, values in lines.items())
        for row, epoch in enumerate(epochs)
    ]
    marked = list(lines.values())[-1][best]
    return Chart(
        title=title,
        lines={
            name: " ".join(f"{x(epoch)},{y(value)}" for epoch, value in zip(epochs, values, strict=True))
            for name, values in lines.items()
        },
        rows=[(y(value), short(value)) for value in ticks(0, top, 4) if value <= top],
        columns=[(x(epoch), f"{epoch:.0f}") for epoch in ticks(first, last, 5, integer=True) if first <= epoch <= last],
        best=(x(epochs[best]), y(marked), f"best epoch {epochs[best]}"),
        strips=[(x(epoch) - step / 2, step, text) for epoch, text in zip(epochs, said, strict=True)],
        level=(y(level[0]), level[1]) if level and level[0] <= top else None,
    )


def ticks(low: float, high: float, count: int, *, integer: bool = False) -> list[float]:
    """Return round numbers that cover a range, about so many."""
    locator = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10], integer=integer, min_n_ticks=2)
    return [float(value) for value in locator.tick_values(low, high)]


def short(value: float) -> str:
    """Return a number in few characters: 0.25, 1e-4."""
    if value == 0 or abs(value) >= 0.01:
        return f"{value:.3g}"
    return f"{value:.1e}".replace("e-0", "e-").replace(".0e", "e")
