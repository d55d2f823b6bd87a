"""Starting a training in several processes of this machine, as `torchrun` would, but with its sentences alone."""

import logging
import signal
import sys
import uuid

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher import LaunchConfig, elastic_launch

from pipeline.errors import PipelineError
from pipeline.training import processes
from pipeline.training.memory import AGAIN, GO_ON


def count_wanted(devices: int | str) -> int:
    """Return how many processes shall be started: none but this one under torchrun, else a device each.

    Args:
        devices: their number, or `auto` for all GPUs of this machine.

    Raises:
        PipelineError: if this machine has GPUs, but fewer.
    """
    if torch.distributed.is_torchelastic_launched():
        return 1
    wanted = max(1, torch.cuda.device_count()) if devices == "auto" else int(devices)
    processes.check_devices(wanted)
    return wanted


def launch(count: int, module: str, *arguments: object) -> None:
    """Run a module in several processes, and again when they ran out of memory, until they are done.

    The first that fails ends the others.

    Raises:
        PipelineError: if one was killed, or all were interrupted.
        SystemExit: if one failed, with its sentence on stderr already.
    """
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # a traceback, of these lines, for each sentence
    while True:
        config = LaunchConfig(
            1, 1, count, run_id=uuid.uuid4().hex, rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=0
        )
        try:
            elastic_launch(config, sys.executable)("-m", module, *map(str, arguments))
            return
        except SignalException as error:
            raise PipelineError(f"the training was interrupted; {GO_ON}") from error
        except ChildFailedError as error:
            codes = [failure.exitcode for failure in error.failures.values()]
            if AGAIN in codes:
                continue
            number, first = error.get_first_failure()
            if first.exitcode < 0:
                raise PipelineError(
                    f"process {number} was killed ({signal.Signals(-first.exitcode).name}); {GO_ON}"
                ) from error
            raise SystemExit(1) from error
