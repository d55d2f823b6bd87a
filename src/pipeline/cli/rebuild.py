"""Commands that check the parameters, rebuild what is out of date, name the champion, and rank the other systems."""

from pathlib import Path

import typer

from pipeline.cli.places import CORRECTIONS, METRICS, PACKAGE, PAGE, POINTER, PROMOTION, RAW, ZOO, ParamsFile
from pipeline.command import as_sentence
from pipeline.errors import PipelineError
from pipeline.params import NO_PATHS, Params, load_params
from pipeline.registry.repro import changed_params, run_dvc, start_dvc


def check(params: ParamsFile = Path("params.yaml")) -> None:
    """Check params.yaml: every key and value, the sources, and that each version in `run` can be built."""
    with as_sentence():
        _check(load_params(params))
        typer.echo(f"{params} is sound")


def repro() -> None:
    """Check params.yaml, run what is out of date (`dvc repro`), name the champion and the versions' page."""
    from pipeline.datasets.corrections import read_sheet

    with as_sentence():
        params = load_params()
        read_sheet(CORRECTIONS)
        status = start_dvc("status", "--quiet")  # takes seconds, as do the imports of the next line
        from pipeline.cli.outside import replaced_sources, stale_stages, versions_without_run

        replaced = replaced_sources(params, RAW)
        if status.wait() or replaced or not POINTER.exists():
            _check(params)
            _repro(replaced)
        for version in versions_without_run(params, Path("models")):
            typer.echo(f"the tracking store has no run of {version}; its evaluation makes one")
            run_dvc("repro", "--single-item", "--force", f"evaluate@{version}")
        stale = stale_stages(POINTER, PROMOTION, PACKAGE)
        for stage in stale:
            typer.echo(f"what {stage} left in the registry or the Bento store is gone, or was changed")
            run_dvc("repro", "--single-item", "--force", stage)
        if stale:
            run_dvc("repro", "report")  # it marks the champion
        typer.echo(_champion())
        typer.echo(f"the versions side by side: {PAGE}")


def zoo() -> None:
    """Train and score the systems to compare with, the recipes with `promote: false` and the ensembles; rank them."""
    with as_sentence():
        params = load_params()
        with changed_params(run=list(params.comparison), combine=list(params.ensembles)):
            _check(load_params())
            run_dvc("repro", "evaluate", *(["combine"] if params.ensembles else []))

        from pipeline.evaluation.ranking import rank
        from pipeline.files import read_output, written_whole
        from pipeline.stages.report import write_version_pages

        stages = {name: f"evaluate@{name}" for name in params.comparison}
        stages |= {name: f"combine@{name}" for name in params.ensembles}
        ranked = rank({name: read_output(METRICS / f"{name}.json", stage) for name, stage in stages.items()})
        with written_whole(ZOO / "ranking.csv") as file:
            ranked.round(4).to_csv(file, index=False)
        folders = Path("models"), Path("predictions"), METRICS, Path("reports/pictures")
        write_version_pages(params.comparison, *folders, ZOO)
        typer.echo(ranked.drop(columns="tta").round(3).to_string(index=False))
        typer.echo(f"this table, and a page about each system: {ZOO}")


def champion() -> None:
    """Name the champion, its macro-F1 and its Bento."""
    with as_sentence():
        typer.echo(_champion())


def _repro(replaced: list[str]) -> None:
    for dataset in replaced:
        typer.echo(f"the source of {dataset} was replaced since it was downloaded")
        run_dvc("repro", "--single-item", "--force", f"download@{dataset}")
    if not POINTER.exists():  # as in a clone that pulled what others made: promote is up to date there
        run_dvc("repro", "promote")
        if not POINTER.exists():
            run_dvc("repro", "--single-item", "--force", "promote")
    run_dvc("repro")


def _check(params: Params) -> None:
    _check_sources(params)
    _check_recipes(params)


def _check_sources(params: Params) -> None:
    from pipeline.sources import SOURCES
    from pipeline.sources.archive import check_source

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
        from pipeline.vision.detectors import load_detector
        from pipeline.vision.yunet_file import find_yunet

        load_detector(find_yunet(params.faces.yunet))


def _check_recipes(params: Params) -> None:
    from pipeline.networks.network import check_network  # with torch: what is wrong before is told sooner
    from pipeline.training.augment import augmentation_of, build_augmentation

    for version in params.run:
        recipe = params.recipe(version)
        for runs in (recipe, params.recipes[version]):  # at `sample` too, what would fail at `full` is told
            try:
                check_network(runs)
                augmentation_of(runs)
                if runs.balance:
                    build_augmentation(runs.balance.augment, image_size=runs.image_size)
            except PipelineError as error:
                raise PipelineError(f"recipes.{version}: {error}") from error


def _champion() -> str:
    if not all(file.exists() for file in (POINTER, PROMOTION, PACKAGE)):
        raise PipelineError("there is no champion yet; run `make repro` first")
    from pipeline.files import read_output
    from pipeline.inference.pointer import read_pointer
    from pipeline.promotion.decisions import read_champions

    live, packaged = read_pointer(POINTER), read_output(PACKAGE, "package")
    decided = read_champions(PROMOTION).get(live.name)
    said = f"champion: {live.name} version {live.version}"
    if decided and decided["version"] == live.version:
        said += f" (recipe {decided['recipe']}), macro-F1 {decided['macro_f1']:.3f} on the test faces"
    if (packaged["model"], packaged["version"]) != (live.name, live.version):  # after a rollback, say
        return f"{said}; its Bento is out of date, run `make repro`"
    return f"{said}; Bento {packaged['bento']}"
