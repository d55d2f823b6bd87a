import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import once
import pytest
import yaml
from servers import S3
from stores import FileStore, Servers

if TYPE_CHECKING:
    import httpx
    from serving import OpenService

ROOT = Path(__file__).parents[1]
# Before torch is imported, which asks for it only once; so what imports it is imported inside the fixtures.
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # else torch starts a thread a core in each of them
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # this is no worker, but who starts them
        once.begin_session()


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        once.end_session()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder with real data, or skip the test where there is none."""
    folder = Path(os.environ.get("FER_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"needs the folder with real data: {folder} (FER_SHARED)")
    return folder


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """Return a folder, and run the test as a user to whom file permissions apply: root may do anything."""
    was = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        if was == 0:
            os.seteuid(65534)  # nobody
        try:
            yield Path(folder)
        finally:
            os.seteuid(was)


@pytest.fixture(scope="session")
def open_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator["OpenService"]:
    """Return a service that whoever is on this machine may ask; a test that moves its pointer puts it back.

    Each worker has one of its own, so that no other test asks it meanwhile.
    """
    from serving import OpenService, running, write_champion

    folder = tmp_path_factory.mktemp("server")
    limits = json.dumps({"sessions": 2, "megabytes": 1})
    with (
        tempfile.TemporaryDirectory() as temporary,  # its sockets lie there, whose paths must be short
        running(folder, write_champion(folder), TMPDIR=temporary, FER_LIVE=limits) as client,
    ):
        yield OpenService(client, folder, Path(temporary))
    log = (folder / "server.log").read_text(errors="replace")
    assert "Traceback" not in log, log[log.index("Traceback") :][:4000]


@pytest.fixture(scope="session")
def client(open_service: "OpenService") -> "httpx.Client":
    """Return a client of the open service."""
    return open_service.client


@pytest.fixture(scope="session")
def folder(open_service: "OpenService") -> Path:
    """Return the folder with the pointer, the models and the log of the open service."""
    return open_service.folder


@pytest.fixture(scope="session")
def temporary(open_service: "OpenService") -> Path:
    """Return the folder in which the open service keeps what is temporary."""
    return open_service.temporary


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """Return a real S3 store with the buckets `mlflow` and `dvc`, or skip the test where it is not installed."""
    s3 = S3(tmp_path_factory.mktemp("s3"))
    s3.start()
    yield s3
    s3.kill()


@pytest.fixture(scope="session")
def servers(s3: S3) -> Iterator[Servers]:
    """Return MLflow's server, with PostgreSQL and an S3 store behind it, or skip the test where there are none."""
    pytest.importorskip("psycopg2", reason="needs PostgreSQL's driver, which `make test-slow` installs")
    with tempfile.TemporaryDirectory() as folder:  # not pytest's own: PostgreSQL may run as another user
        servers = Servers(Path(folder), s3)
        try:
            servers.start()
            yield servers
        finally:
            servers.stop()


@pytest.fixture(scope="session")
def empty_database() -> Path:
    """Return MLflow's database without a run, to copy: making its tables takes seconds."""

    def make(folder: Path) -> None:
        from mlflow import MlflowClient

        MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()

    return once.made_once("empty_database", make) / "mlflow.db"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path
) -> Iterator[FileStore | Servers]:
    """Return an empty tracking store and registry, in use: once in a file, and, slowly, once over HTTP."""
    if request.param == "sqlite":
        yield FileStore(tmp_path, lambda address: monkeypatch.setenv("MLFLOW_TRACKING_URI", address), empty_database)
        return
    servers: Servers = request.getfixturevalue("servers")
    servers.lose()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", servers.address)
    yield servers


@pytest.fixture
def gate(store: FileStore | Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working folder with faces and two recipes, and nothing to decide about yet."""
    from promotions import prepare

    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def copies(empty_database: Path) -> Callable[[Callable[[Path], None]], Path]:
    """Return a function that gives a folder like `gate`, its store in a file, in which something was done, once."""

    from promotions import prepare

    def done(work: Callable[[Path], None]) -> Path:
        def make(folder: Path) -> None:
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(folder)
                FileStore(folder, lambda address: patch.setenv("MLFLOW_TRACKING_URI", address), empty_database)
                prepare(folder)
                work(folder)

        return once.made_once(work.__name__, make)

    return done


@pytest.fixture
def after(
    gate: Path, store: FileStore | Servers, copies: Callable[[Callable[[Path], None]], Path]
) -> Callable[[Callable[[Path], None]], Path]:
    """Return a function that gives `gate` after some work, which is done once for all tests where it can be copied."""

    def place(work: Callable[[Path], None]) -> Path:
        if isinstance(store, FileStore):
            done = copies(work)
            shutil.copytree(done, gate, dirs_exist_ok=True)
            store.take(done)
        else:
            work(gate)
        return gate

    return place


@pytest.fixture
def promoted(after: Callable[[Callable[[Path], None]], Path]) -> Path:
    """Return a working folder whose `v1`, right for four of the seven labels, is champion; see `promotions`."""
    from promotions import first_champion

    return after(first_champion)


@pytest.fixture
def promoted_twice(after: Callable[[Callable[[Path], None]], Path]) -> Path:
    """Return one whose `v2`, right for six labels, has taken the place of `v1`."""
    from promotions import second_champion

    return after(second_champion)


@pytest.fixture
def really_promoted(after: Callable[[Callable[[Path], None]], Path]) -> Path:
    """Return one whose `v1`, right for all labels, is champion, exported as the product does it."""
    from promotions import real_champion

    return after(real_champion)


NARROW = {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}  # of a ConvNeXt


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path) -> Path:
    """Return an empty folder with the parameters, as a stage finds it: two epochs per recipe, and narrow networks."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for recipe in params["recipes"].values():
        recipe.setdefault("at_sample", {})["epochs"] = 2
        if "convnext" in recipe["backbone"]:
            recipe |= {"backbone_args": {**NARROW, "norm_layer": "layernorm2d"}, "image_size": 48}
        elif "stem_width" in recipe.get("backbone_args", {}):  # a ResNet
            recipe["backbone_args"] |= {"channels": [8, 16, 24, 32], "stem_width": 8}
    monkeypatch.chdir(tmp_path)
    # By its whole path: MLflow keeps one open store an address, and every test has its own.
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    return tmp_path


@pytest.fixture
def write_params(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a copy of params.yaml into the test's folder, with values changed by dotted key."""

    def write(changes: dict[str, Any] | None = None, name: str = "params.yaml") -> Path:
        content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        for key, value in (changes or {}).items():
            *sections, last = key.split(".")
            section = content
            for part in sections:
                section = section[part]
            section[last] = value
        file = tmp_path / name
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
        return file

    return write
