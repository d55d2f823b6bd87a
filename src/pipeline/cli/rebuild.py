"""Commands that check the parameters, rebuild what is out of date, and name the champion."""

from pathlib import Path

import typer

from pipeline.cli.places import CORRECTIONS, PACKAGE, PAGE, POINTER, PROMOTION, RAW, ParamsFile
from pipeline.command import as_sentence
from pipeline.errors import PipelineError
from pipeline.params import NO_PATHS, Params, load_params
from pipeline.registry.repro import run_dvc


def check(params: ParamsFile = Path("params.yaml")) -> None:
    """Check params.yaml: every key and value, the sources, and that each version in `run` can be built."""
    with as_sentence():
        _check(load_params(params))
        typer.echo(f"{params} is sound")


def repro() -> None:
    """Check params.yaml, run what is out of date (`dvc repro`), name the champion and the versions' page."""
    from pipeline.cli.outside import replaced_sources, stale_stages, versions_without_run
    from pipeline.datasets.corrections import read_sheet

    with as_sentence():
        params = load_params()
        _check(params)
        read_sheet(CORRECTIONS)
        for dataset in replaced_sources(params, RAW):
            typer.echo(f"the source of {dataset} was replaced since it was downloaded")
            run_dvc("repro", "--single-item", "--force", f"download@{dataset}")
        if not POINTER.exists():  # as in a clone that pulled what others made: promote is up to date there
            run_dvc("repro", "promote")
            if not POINTER.exists():
                run_dvc("repro", "--single-item", "--force", "promote")
        run_dvc("repro")
        for version in versions_without_run(params, Path("models")):
            typer.echo(f"the tracking store has no run of {version} any more; its evaluation makes one")
            run_dvc("repro", "--single-item", "--force", f"evaluate@{version}")
        stale = stale_stages(POINTER, PROMOTION, PACKAGE)
        for stage in stale:
            typer.echo(f"what {stage} left in the registry or the Bento store is gone, or was changed")
            run_dvc("repro", "--single-item", "--force", stage)
        if stale:
            run_dvc("repro", "compare")  # it marks the champion
        typer.echo(_champion())
        typer.echo(f"the versions side by side: {PAGE}")


def champion() -> None:
    """Name the champion, its macro-F1 and its Bento."""
    with as_sentence():
        typer.echo(_champion())


def _check(params: Params) -> None:
    from pipeline.networks.network import check_network
    from pipeline.sources import SOURCES
    from pipeline.sources.archive import check_source
    from pipeline.training.augment import augmentation_of, build_augmentation
    from pipeline.vision.detectors import load_detector
    from pipeline.vision.yunet_file import find_yunet

    for name in params.use:
        source = params.dataset(name).source
        if source not in NO_PATHS:
            if RAW.resolve() in (Path(source).resolve() / "any").parents:
                raise PipelineError(f"datasets.{name}.from: {source} lies in {RAW}, which is emptied; move it")
            try:
                check_source(Path(source))
            except PipelineError as error:
                raise PipelineError(f"datasets.{name}.from: {error}") from error
    if not all(SOURCES[name].cropped for name in params.use):
        load_detector(find_yunet(params.faces.yunet))
    for version in params.run:
        recipe = params.recipe(version)
        if recipe.recurrent:
            raise PipelineError(f"recipes.{version} reads clips, which only the zoo has; put it into zoo/params.yaml")
        for runs in (recipe, params.recipes[version]):  # at `sample` too, what would fail at `full` is told
            try:
                check_network(runs)
                augmentation_of(runs)
                if runs.balance:
                    build_augmentation(runs.balance.augment, image_size=runs.image_size)
            except PipelineError as error:
                raise PipelineError(f"recipes.{version}: {error}") from error


def _champion() -> str:
    from pipeline.files import read_output
    from pipeline.inference.pointer import read_pointer
    from pipeline.promotion.decisions import read_champions

    if not all(file.exists() for file in (POINTER, PROMOTION, PACKAGE)):
        raise PipelineError("there is no champion yet; run `make repro` first")
    live, packaged = read_pointer(POINTER), read_output(PACKAGE, "package")
    decided = read_champions(PROMOTION).get(live.name)
    said = f"champion: {live.name} version {live.version}"
    if decided and decided["version"] == live.version:
        said += f" (recipe {decided['recipe']}), macro-F1 {decided['macro_f1']:.3f} on the test faces"
    if (packaged["model"], packaged["version"]) != (live.name, live.version):  # after a rollback, say
        return f"{said}; its Bento is out of date, run `make repro`"
    return f"{said}; Bento {packaged['bento']}"
