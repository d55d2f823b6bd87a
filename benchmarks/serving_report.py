"""What `serving.py` measured: the targets, met or not, as a table, a JSON file and a page."""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined
from rounds import interval

from pipeline.files import written_whole

OURS, PLAIN, LITSERVE, EAGER = "this service", "FastAPI (a)", "LitServe (b)", "eager torch (c)"
RAW = "in process (d)"
AFTER_CROWD, ALONE = "1 client after a crowd", "1 client"
AS_TOLD = ("megabytes", "load_share", "took", "statuses", "told_when", "failures")
TEMPLATE = "serving.html.j2"


@dataclass(frozen=True)
class Leg:
    """One contender, measured once."""

    model: str
    kind: str
    contender: str
    rate: float  # images a second
    errors: int
    batch: float  # mean, of the images that the network was given at once
    spent: float  # milliseconds of the processor for an image
    megabytes: float  # of all its processes
    load_share: float = 0.0  # of a core, for the generator of the load
    took: list[float] = field(default_factory=list, repr=False)  # milliseconds
    statuses: dict[str, int] = field(default_factory=dict)
    told_when: int = 0  # answers 503 that say when to come again
    failures: list[Any] = field(default_factory=list)

    @staticmethod
    def of(model: str, kind: str, contender: str, images: int, outcome: dict[str, Any]) -> "Leg":
        """Return what came of a load whose requests had so many images."""
        answered = images * len(outcome["took"])
        return Leg(
            *(model, kind, contender, answered / outcome["seconds"]),
            errors=sum(outcome["statuses"].values()) - len(outcome["took"]),
            batch=outcome["batch"],
            spent=1000 * outcome["spent"] / max(1, answered),
            **{
                name: outcome[name] for name in ("megabytes", "load_share", "took", "statuses", "told_when", "failures")
            },
        )

    @staticmethod
    def of_raw(model: str, kind: str, contender: str, count: int, seconds: float, spent: float, batch: int) -> "Leg":
        """Return what came of computing so many images in one process."""
        return Leg(model, kind, contender, count / seconds, 0, batch, 1000 * spent / count, 0.0)

    def percentile(self, share: float) -> float:
        """Return the milliseconds within which a share of the answers came."""
        return float(np.percentile(self.took, share)) if self.took else float("nan")


@dataclass(frozen=True)
class Target:
    """Something that was set out to be reached, and what was measured."""

    model: str
    what: str
    wanted: str
    found: str
    met: bool | None  # None where there is no target, but the number is told


class Legs:
    """All that was measured, by model, kind and contender."""

    def __init__(self, legs: Sequence[Leg]) -> None:
        self.all = list(legs)

    def of(self, model: str, kind: str, contender: str) -> list[Leg]:
        """Return a contender's measurements, by round."""
        return [leg for leg in self.all if (leg.model, leg.kind, leg.contender) == (model, kind, contender)]

    def ratios(
        self, model: str, one: tuple[str, str], other: tuple[str, str], value: Callable[[Leg], float]
    ) -> list[float]:
        """Return the ratio of two contenders, each given as kind and name, in each round."""
        pairs = zip(self.of(model, *one), self.of(model, *other), strict=False)
        return [value(first) / value(second) for first, second in pairs]


def judge(legs: Legs, model: str) -> list[Target]:
    """Hold a model's measurements against the targets."""
    targets: list[Target] = []

    def compare(what: str, wanted: float | None, ratios: list[float], *, most: bool = False) -> None:
        if not ratios:
            return
        middle, low, high = interval(ratios)
        met = None if wanted is None else (low <= wanted if most else high >= wanted)
        said = "told only" if wanted is None else f"{'at most' if most else 'at least'} {wanted:.2f}"
        targets.append(Target(model, what, said, f"{middle:.2f} ({low:.2f} to {high:.2f})", met))

    def rates(kind: str, other: str) -> list[float]:
        return legs.ratios(model, (kind, OURS), (kind, other), lambda leg: leg.rate)

    small, crowd = model == "v8", "32 clients"
    compare(f"{crowd}, requests/s against {RAW}", None if small else 0.9, rates(crowd, RAW))
    for other in (PLAIN, LITSERVE, EAGER):
        compare(f"{crowd}, requests/s against {other}", None if small and other == PLAIN else 1.0, rates(crowd, other))
    compare(f"predict_batch of 32, images/s against {RAW}", 0.75 if small else None, rates("batches", RAW))
    for kind in (ALONE, AFTER_CROWD):
        p50s = legs.ratios(model, (kind, OURS), (ALONE, PLAIN), lambda leg: leg.percentile(50))
        compare(f"{kind}, p50 against {PLAIN} alone", None if small else 1.3, p50s, most=True)
    for leg in legs.of(model, "sustained", OURS):
        seconds = len(leg.took) / leg.rate
        found = f"{leg.errors} of {leg.errors + len(leg.took):,} in {seconds:.0f} s"
        targets.append(Target(model, "64 clients, failed requests", "none", found, leg.errors == 0))
        usual = leg.percentile(99)
        for over in legs.of(model, "overload", OURS):
            others = {status: count for status, count in over.statuses.items() if status not in ("200", "503")}
            refused = over.statuses.get("503", 0)
            found = f"{refused} x 503, {over.told_when} of them with Retry-After, others {others or 'none'}"
            fine = not others and refused == over.told_when
            targets.append(Target(model, "twice the capacity, refused", "503 with Retry-After alone", found, fine))
            found = f"{over.percentile(99):,.0f} ms; {usual:,.0f} ms at 64 clients"
            within = over.percentile(99) <= 2 * usual
            targets.append(Target(model, "twice the capacity, p99 of the accepted", "at most twice", found, within))
    return targets


def summarize(legs: Legs, model: str) -> list[dict[str, Any]]:
    """Return a line for each kind and contender: medians over the rounds, the answers of all rounds taken together."""
    lines = []
    for kind, contender in dict.fromkeys((leg.kind, leg.contender) for leg in legs.all if leg.model == model):
        found = legs.of(model, kind, contender)
        took = [each for leg in found for each in leg.took]
        line = {
            **{"kind": kind, "contender": contender, "rounds": len(found)},
            **{name: statistics.median(getattr(leg, name) for leg in found) for name in ("rate", "batch", "spent")},
            **{f"p{share}": float(np.percentile(took, share)) if took else None for share in (50, 95, 99)},
            "errors": sum(leg.errors for leg in found),
            "megabytes": max(leg.megabytes for leg in found),
            "load_share": statistics.median(leg.load_share for leg in found),
        }
        lines.append(line)
    return lines


def show(lines: list[dict[str, Any]], targets: list[Target], model: str) -> None:
    """Print a model's part."""
    print(f"\n{model}")
    head = ("", "img/s", "p50", "p95", "p99 ms", "errors", "batch", "CPU ms/img", "MB", "load CPU")
    print("  {:<16}{:>9}{:>9}{:>9}{:>9}{:>8}{:>7}{:>12}{:>7}{:>10}".format(*head))
    for kind in dict.fromkeys(line["kind"] for line in lines):
        print(f"  {kind}")
        for line in (line for line in lines if line["kind"] == kind):
            waits = "".join(
                f"{line[key]:9,.1f}" if line[key] is not None else f"{'':9}" for key in ("p50", "p95", "p99")
            )
            tail = f"{line['megabytes']:7,.0f}{line['load_share']:10.0%}" if line["megabytes"] else ""
            start = f"    {line['contender']:<16}{line['rate']:7,.1f}{waits}"
            print(f"{start}{line['errors']:8}{line['batch']:7.1f}{line['spent']:12.2f}{tail}")
    print()
    for target in targets:
        sign = {True: "met", False: "NOT MET", None: "-"}[target.met]
        print(f"  {sign:<8} {target.what}: {target.found}; {target.wanted}")


def report(all_legs: Sequence[Leg], page: Path, rounds: int, seconds: float) -> None:
    """Print the tables, and write the page and the JSON file beside it."""
    legs, models = Legs(all_legs), list(dict.fromkeys(leg.model for leg in all_legs))
    parts: dict[str, Any] = {
        model: {"lines": summarize(legs, model), "targets": judge(legs, model)} for model in models
    }
    for model, part in parts.items():
        show(part["lines"], part["targets"], model)
    page.parent.mkdir(parents=True, exist_ok=True)
    here = ChoiceLoader([FileSystemLoader(Path(__file__).parent), PackageLoader("pipeline", "pages")])
    environment = Environment(loader=here, undefined=StrictUndefined, autoescape=True, trim_blocks=True)
    for part in parts.values():  # Jinja's own grouping would sort them
        kinds = dict.fromkeys(line["kind"] for line in part["lines"])
        part["kinds"] = {kind: [line for line in part["lines"] if line["kind"] == kind] for kind in kinds}
    facts = {"parts": parts, "rounds": rounds, "seconds": seconds, "ours": OURS, "raw": RAW}
    with written_whole(page) as partial:
        partial.write_text(environment.get_template(TEMPLATE).render(facts), encoding="utf-8")
    numbers = {
        model: {"lines": part["lines"], "targets": [asdict(target) for target in part["targets"]]}
        for model, part in parts.items()
    }
    raw = [asdict(leg) | {"took": [round(each, 1) for each in leg.took]} for leg in all_legs]
    with written_whole(page.with_suffix(".json")) as partial:
        partial.write_text(json.dumps({"seconds": seconds, "models": numbers, "legs": raw}), encoding="utf-8")
    print(f"\n{rounds} rounds in {seconds / 60:.0f} minutes; ratios are medians of rounds, with their 95 % interval")
    print(f"see {page}")
