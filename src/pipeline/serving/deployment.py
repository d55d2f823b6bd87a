"""What the environment says of a service, where its processes meet, and what is done before any of them starts."""

import atexit
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import PipelineError
from pipeline.inference.cores import count_threads
from pipeline.inference.pointer import READY_MADE, choose_model
from pipeline.inference.screening import load_rule
from pipeline.inference.variants import FULL, offers_file
from pipeline.serving.keeper import keep
from pipeline.serving.live import load_limits
from pipeline.serving.protection.chain import who_may_ask
from pipeline.serving.protection.exposure import KEYS, Exposure
from pipeline.serving.slots import SLOTS, Served, Slots, write_slots

if TYPE_CHECKING:
    from pipeline.serving.answer_log import AnswerLog

log = logging.getLogger("bentoml.serve")  # BentoML shows this one

ROOT = Path(__file__).resolve().parents[3]  # where `service.py` lies, in a Bento too
LOG = "FER_PREDICTIONS_LOG"
SLOTS_FILE = "FER_SLOTS"  # set here, for the processes that are started


def pointer_file() -> Path:
    """Return the pointer that is followed."""
    return Path(os.environ.get("FER_POINTER", ROOT / "models" / "champion.json"))


def slots_file() -> Path:
    """Return the file by which the processes agree."""
    return Path(os.environ[SLOTS_FILE])


def lock_file() -> Path:
    """Return the file that the network's process holds as long as it lives."""
    return slots_file().with_name("network.lock")


def metrics_folder() -> Path:
    """Return the folder that the processes count in."""
    return slots_file().with_name("metrics")


def log_folder() -> Path | None:
    """Return the folder that predictions are logged in, if they shall be; raises PipelineError if it is an address."""
    named = os.environ.get(LOG)
    if named and "://" in named:
        raise PipelineError(f"{LOG} must name a folder, not {named}")
    return Path(named).absolute() if named else None


def open_log() -> "AnswerLog | None":
    """Open the log of predictions, if there shall be one."""
    folder = log_folder()
    if folder is None:
        return None
    from pipeline.serving.answer_log import AnswerLog  # with Arrow, which a service without a log need not hold

    return AnswerLog(folder)


def wanted_variant() -> str:
    """Return the variant of the model to serve."""
    return os.environ.get("FER_VARIANT") or FULL


def choose_served() -> tuple[Served, str]:
    """Return what the pointer says to serve: in full precision, and why, where the wanted variant is not offered."""
    pointer, file = choose_model(pointer_file())
    try:
        return Served.of(pointer, file, wanted_variant()), ""
    except PipelineError as error:
        return Served.of(pointer, file), str(error)


def stamps_of(served: Served) -> list[tuple[int, int] | None]:
    """Return what changes when there may be another thing to serve.

    It is of the champion's pointer, of the ready-made model's beside it, and of the offer of what is served.
    """
    files = (pointer_file(), pointer_file().parent / READY_MADE, offers_file(Path(served.file)))
    return [(file.stat().st_mtime_ns, file.stat().st_ino) if file.exists() else None for file in files]


def prepare(exposure: Exposure) -> None:
    """Choose before any process starts: all serve the same model, also one that is started again later.

    What is chosen, and where the processes meet, is left to them in the environment.

    Raises:
        PipelineError: if the environment says what can not be done, or there is nothing that can be served.
    """
    load_rule()
    count_threads()
    load_limits()
    if logged := log_folder():
        os.environ[LOG] = str(logged)  # by its whole path: the processes of a Bento run elsewhere
    if exposure.keys:
        os.environ[KEYS] = str(exposure.keys)
    log.info(who_may_ask(exposure))
    served = Served.of(*choose_model(pointer_file()), wanted_variant())
    served.open()  # what cannot be served is told here, once, and not by processes that die in turn
    folder = tempfile.mkdtemp(prefix="expression-service-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ[SLOTS_FILE] = str(Path(folder) / "slots.json")
    os.environ["TMPDIR"] = folder  # of the processes; what one leaves that is killed goes with the rest
    write_slots(slots_file(), Slots({SLOTS[0]: served}, SLOTS[0]))
    keep(exposure.grace_seconds)
