"""Comparing on a noisy machine: contenders take turns, and what counts is their ratio in one round."""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
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
