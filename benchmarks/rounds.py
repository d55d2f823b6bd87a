"""Comparing on a noisy machine: contenders take turns, and what counts is their ratio in one round."""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Work = Callable[[], Any]


def ask_for_rounds(description: str | None) -> int:
    """Return how many rounds the command line asks for; `--help` describes the benchmark."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="that count, after one that does not")
    return parser.parse_args().rounds


def seconds(work: Work) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def take_turns(contenders: Mapping[str, Work], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each contender by round, after one round that does not count."""
    for work in contenders.values():
        work()
    turns = [{name: seconds(work) for name, work in contenders.items()} for _ in range(rounds)]
    return {name: [turn[name] for turn in turns] for name in contenders}


def ratio(faster: list[float], slower: list[float]) -> str:
    """Return the median ratio of two contenders' seconds over the rounds, with the lowest and the highest."""
    ratios = [one / other for one, other in zip(faster, slower, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def rate(count: int, times: list[float]) -> str:
    """Return the median of so many things a second."""
    return f"{count / statistics.median(times):,.0f}"


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median of values by round, and its 95 % interval by order statistics.

    From six rounds on that is an interval of at least 95 %; of fewer it is from the lowest to the highest, and less.
    """
    ranked, count = sorted(values), len(values)
    # The median lies between the k-th lowest and the k-th highest unless fewer than k values lie on one side of it.
    outside, k = 0.0, 0
    while k < (count - 1) // 2 and outside + math.comb(count, k) * 2**-count <= 0.025:
        outside += math.comb(count, k) * 2**-count
        k += 1
    k = max(0, k - 1)
    return statistics.median(ranked), ranked[k], ranked[count - 1 - k]
