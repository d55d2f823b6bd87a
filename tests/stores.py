"""Where tests keep their runs and models: a file, as by default, or servers as in `compose.yaml`. Each can be lost."""

import shutil
import sqlite3
from contextlib import closing

from servers import KEYS, MLflow, PostgreSQL


class FileStore:
    """SQLite, artifacts in `mlartifacts` below a folder."""

    def __init__(self, folder, use, empty):
        """Begin with an empty store; `empty` is such a database, because to make one takes seconds."""
        self._folder, self._use, self._empty, self._number = folder, use, empty, 0
        self.lose()

    def lose(self):
        """Go on with an empty store, but for the artifacts."""
        # By its whole path: MLflow keeps one open store an address, and every test has its own.
        shutil.copy(self._empty, file := self._folder / f"mlflow{self._number or ''}.db")
        self._use(f"sqlite:///{file}")
        self._number += 1

    def lose_artifacts(self):
        shutil.rmtree(self._folder / "mlartifacts")

    def damage_artifacts(self, name):
        for file in (self._folder / "mlartifacts").rglob(name):
            file.write_bytes(b"damaged")

    def copy(self, folder):
        """Go on with a copy, in a copy of the folder."""
        _move(folder / "mlflow.db", self._folder, folder)
        self._use(f"sqlite:///{folder}/mlflow.db")

    def take(self, folder):
        """Take the place of a store whose folder was copied into this one's."""
        _move(self._folder / "mlflow.db", folder, self._folder)


def _move(file, before, after):
    """Write into a database where the artifacts are now."""
    with closing(sqlite3.connect(file)) as database, database:
        for table, column in (
            ("experiments", "artifact_location"),
            ("logged_models", "artifact_location"),
            ("runs", "artifact_uri"),
            ("model_versions", "storage_location"),
        ):
            database.execute(f"UPDATE {table} SET {column} = replace({column}, '{before}/', '{after}/')")


class Servers:
    """MLflow over HTTP, PostgreSQL and an S3 store behind it; started once, and empty for every test."""

    def __init__(self, folder, s3):
        self._postgresql, self._s3 = PostgreSQL(folder), s3
        self._mlflow = MLflow(self._postgresql.address, "s3://mlflow", s3.address)
        self.address = self._mlflow.address
        self._kept = False

    def start(self):
        self._postgresql.start()
        self._mlflow.start()
        self._postgresql.keep("empty")

    def stop(self):
        self._mlflow.kill()
        self._postgresql.kill()

    def lose(self):
        self._postgresql.bring_back("empty")
        self._kept = False

    def lose_artifacts(self):
        self._artifacts().delete()

    def damage_artifacts(self, name):
        for entry in self._artifacts():
            if entry.key.endswith(f"/{name}"):
                entry.put(Body=b"damaged")

    def copy(self, folder):
        if not self._kept:
            self._postgresql.keep("before")
            self._kept = True
        self._postgresql.bring_back("before")

    def _artifacts(self):
        import boto3

        named = {"aws_access_key_id": KEYS["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": KEYS["AWS_SECRET_ACCESS_KEY"]}
        s3 = boto3.resource("s3", endpoint_url=self._s3.address, region_name=KEYS["AWS_DEFAULT_REGION"], **named)
        return s3.Bucket("mlflow").objects.all()
