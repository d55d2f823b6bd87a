"""The two models that a running service may hold at once, and the file by which its processes agree on them.

A service goes over to another model by opening it beside the present one; requests that have begun are answered by the
one they began with. A process that is started again finds in the file what the others hold.
"""

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pipeline.files import read_json, write_json
from pipeline.inference.pointer import Pointer
from pipeline.inference.predictor import Predictor
from pipeline.inference.runtimes import choose_runtime
from pipeline.inference.variants import FULL, find_variant, variant_file

SLOTS = ("a", "b")


@dataclass(frozen=True)
class Served:
    """A model that is served: its exported file, its name and version in the registry, what is opened of it.

    That is a `variant`, which lies beside the file, or the `full` model itself; `sha256` is its content's.
    """

    file: str
    name: str
    version: str
    sha256: str
    variant: str = FULL

    @staticmethod
    def of(pointer: Pointer, file: Path, variant: str = FULL) -> "Served":
        """Return what a pointer and the file that was found for it say; PipelineError if the variant is not offered."""
        sha256 = find_variant(file, pointer.sha256, variant)
        return Served(str(file.resolve()), pointer.name, pointer.version, sha256, variant)

    def open(self) -> Predictor:
        """Open the model; raises PipelineError if it can not be served."""
        yunet = os.environ.get("FER_YUNET")
        file = variant_file(Path(self.file), self.variant)
        return Predictor(
            file,
            name=self.name,
            version=self.version,
            yunet=Path(yunet) if yunet else None,
            runtime=choose_runtime(self.variant),
        )


@dataclass(frozen=True)
class Slots:
    """Which model is in which slot, and which slot new requests go to."""

    models: dict[str, Served]
    current: str

    @property
    def served(self) -> Served:
        """The model that new requests go to."""
        return self.models[self.current]

    @property
    def free(self) -> str:
        """The slot that the next model comes into."""
        return next(slot for slot in SLOTS if slot != self.current)

    def with_model(self, slot: str, served: Served) -> "Slots":
        """Return the slots with a model in one of them, which new requests do not go to yet."""
        return replace(self, models={**self.models, slot: served})

    def switched_to(self, slot: str) -> "Slots":
        """Return the slots with the new requests going to another one."""
        return replace(self, current=slot)

    def without(self, slot: str) -> "Slots":
        """Return the slots with nothing in one of them."""
        return replace(self, models={name: served for name, served in self.models.items() if name != slot})


def read_slots(file: Path) -> Slots:
    """Read what the processes of a service hold."""
    content = read_json(file)
    return Slots({slot: Served(**served) for slot, served in content["models"].items()}, content["current"])


def write_slots(file: Path, slots: Slots) -> None:
    """Write what they hold, in one step."""
    write_json(file, asdict(slots))
