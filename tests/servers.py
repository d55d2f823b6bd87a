"""Real servers on ports of their own: PostgreSQL, an S3 store and MLflow, these two started as `compose.yaml` says."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing, suppress
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
KEYS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any-secret", "AWS_DEFAULT_REGION": "us-east-1"}


def compose():
    """Return the services of compose.yaml, by name, with the values that its variables have by default."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return yaml.safe_load(text)["services"]


def free_port():
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def find_program(name, reason):
    """Return a program's path: of this environment, of the machine, or of Debian's PostgreSQL; else skip the test."""
    places = [Path(sys.executable).parent, *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    found = shutil.which(name, path=os.pathsep.join([str(places[0]), os.environ["PATH"], *map(str, places[1:])]))
    if found is None:
        pytest.skip(f"needs the program `{name}`: {reason}")
    return Path(found).resolve()


class Server:
    """A process, ready when `is_ready` says so, whose children end with it."""

    def __init__(self, command, is_ready, **options):
        self._command, self._is_ready, self._options = [str(word) for word in command], is_ready, options
        self._process = None

    def start(self):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(self._command, **quiet, start_new_session=True, **self._options)
        until = time.monotonic() + 120
        while time.monotonic() < until and self._process.poll() is None:
            with suppress(OSError):
                if self._is_ready():
                    return
            time.sleep(0.1)
        self.kill()
        raise TimeoutError(f"{' '.join(self._command)} did not start")

    def kill(self, how=signal.SIGKILL):
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, how)
            self._process.wait()
            self._process = None


def answers(address):
    """Return a function that says whether an address answers."""
    return lambda: urllib.request.urlopen(address, timeout=1).close() is None


class MLflow(Server):
    """`mlflow server`, with the command and the settings of compose.yaml, whose store outlives it."""

    def __init__(self, store, artifacts, s3="http://127.0.0.1:9"):
        service, port = compose()["mlflow"], free_port()
        self.address = f"http://127.0.0.1:{port}"
        own = {"0.0.0.0": "127.0.0.1", "5000": str(port)}
        settings = {"BACKEND_STORE_URI": store, "ARTIFACTS_DESTINATION": artifacts, "S3_ENDPOINT_URL": s3}
        settings = {**KEYS, **{f"MLFLOW_{key}": str(value) for key, value in settings.items()}}
        assert settings.keys() <= service["environment"].keys()
        super().__init__(
            [sys.executable, "-m", *(own.get(word, word) for word in service["command"])],
            answers(f"{self.address}/health"),
            env={**os.environ, **service["environment"], **settings},
        )


class S3(Server):
    """SeaweedFS, with the command of compose.yaml and the keys in `KEYS`, its data in a folder."""

    def __init__(self, folder):
        weed = find_program("weed", "SeaweedFS, which `make test-slow` installs on Linux")
        port, *others = [free_port() for _ in range(10)]
        self.address = f"http://127.0.0.1:{port}"
        own = {"-dir=/data": f"-dir={folder}", "-ip=s3": "-ip=127.0.0.1", "-ip.bind=0.0.0.0": "-ip.bind=127.0.0.1"}
        parts = [f"{name}.port" for name in ("master", "volume", "filer", "admin")]
        ports = ["s3.port.grpc", *parts, *(f"{name}.grpc" for name in parts)]
        super().__init__(
            [weed, *(own.get(word, word) for word in compose()["s3"]["command"]), f"-s3.port={port}"]
            + [f"-{name}={port}" for name, port in zip(ports, others, strict=True)],
            answers(f"{self.address}/healthz"),
            env={**os.environ, **KEYS},
        )


class PostgreSQL(Server):
    """PostgreSQL with one database `mlflow`, its data in a folder; `keep` and `bring_back` are quick."""

    def __init__(self, folder):
        program = find_program("initdb", "install PostgreSQL (apt-get install postgresql)")
        port = free_port()
        self._place = {"host": "127.0.0.1", "port": port, "user": "mlflow"}
        self.address = f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/mlflow"
        options = {}
        if os.geteuid() == 0:  # as whom it refuses to run
            shutil.chown(folder, "nobody")
            options = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        setup = [program, "--pgdata", folder, "--username=mlflow", "--auth=trust", "--no-sync", "--encoding=UTF8"]
        subprocess.run(setup, check=True, stdout=subprocess.DEVNULL, cwd=folder, **options)
        command = [program.with_name("postgres"), "-D", folder, "-p", port, "-F", "-k", "", "-h", "127.0.0.1"]
        super().__init__(command, self._is_up, cwd=folder, **options)

    def start(self):
        super().start()
        self._run("CREATE DATABASE mlflow")

    def keep(self, name):
        """Keep a copy of the database under a name."""
        self._run(f"DROP DATABASE IF EXISTS {name}", self._CUT, f"CREATE DATABASE {name} TEMPLATE mlflow")

    def bring_back(self, name):
        """Let the database be what it was when it was kept; who is connected is cut off."""
        self._run("DROP DATABASE mlflow WITH (FORCE)", f"CREATE DATABASE mlflow TEMPLATE {name}")

    _CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'mlflow'"

    def _is_up(self):
        import psycopg2

        try:
            self._run("SELECT 1")
        except psycopg2.OperationalError:
            return False
        return True

    def _run(self, *statements):
        import psycopg2

        with closing(psycopg2.connect(**self._place, dbname="postgres")) as connection:
            connection.autocommit = True
            for statement in statements:
                connection.cursor().execute(statement)
