"""The model that requests are answered by, and how a running service follows the pointer from one to the next."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from anyio.to_thread import run_sync

from pipeline.errors import PipelineError
from pipeline.inference.predictor import Predictor
from pipeline.serving.deployment import choose_served, slots_file, stamps_of
from pipeline.serving.lifeline import TROUBLE
from pipeline.serving.remote import RemoteNetwork
from pipeline.serving.slots import Served, read_slots, write_slots
from pipeline.vision.transforms import encode

log = logging.getLogger("bentoml.serve")  # BentoML shows this one

LOOK_EVERY = 1.0  # seconds between two looks at the pointer
LOOK_AGAIN = 10.0  # seconds, where it names what can not be served


class CurrentModel:
    """What new requests are answered by: `predictor` finds their faces, the network in `slot` classifies them."""

    def __init__(self, network: RemoteNetwork) -> None:
        """Open what the processes agreed on; raises PipelineError if it can not be served."""
        self._network = network
        self._slots = read_slots(slots_file())
        self.predictor = self._slots.served.open()
        self._computed = dict[str, dict[str, Any]]()  # what by, by slot
        self._busy = Counter[str]()  # requests in each slot

    @property
    def served(self) -> Served:
        """What is served now."""
        return self._slots.served

    @property
    def computation(self) -> dict[str, Any]:
        """What its network is computed by; known once that is warm."""
        return self._computed[self._slots.current]

    @contextmanager
    def held(self) -> Iterator[tuple[Predictor, str]]:
        """Give a request its predictor and slot, to its end, also if the pointer moves meanwhile."""
        predictor, slot = self.predictor, self._slots.current
        self._busy[slot] += 1
        try:
            yield predictor, slot
        finally:
            self._busy[slot] -= 1

    async def warm_up(self) -> None:
        """Send some faces to a network that has just started."""
        await self._warm_up(self.predictor, self._slots.current)

    async def follow(self) -> None:
        """Go over to another model when the pointer names one, or another variant of it is offered, for ever.

        One that can not be served is told, and not followed.
        """
        seen, complained, excused = None, "", ""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                if (stamps := stamps_of(self.served)) == seen:
                    continue
                served, excuse = await run_sync(choose_served)
                if excuse and excuse != excused:
                    log.warning("%s version %s is served in full precision: %s", served.name, served.version, excuse)
                excused = excuse
                if served != self.served:
                    await self._go_over(served)
                seen, complained = stamps, ""
            except (PipelineError, *TROUBLE) as error:
                if str(error) != complained:
                    log.error("%s version %s stays: %s", self.predictor.name, self.predictor.version, error)
                complained = str(error)
                await asyncio.sleep(LOOK_AGAIN)

    async def _go_over(self, served: Served) -> None:
        """Open a model beside the present one, send it what comes from then on; close the former when it is idle."""
        former, slot = self._slots.current, self._slots.free
        predictor = await run_sync(served.open)
        beside = self._slots.with_model(slot, served)
        write_slots(slots_file(), beside)
        await self._network.fill(slot)
        await self._warm_up(predictor, slot)
        log.info(
            "%s version %s (%s) now, after version %s (%s)",
            *(served.name, served.version, served.variant, self.predictor.version, self.served.variant),
        )
        self._slots, self.predictor = beside.switched_to(slot), predictor
        write_slots(slots_file(), self._slots)
        while self._busy[former]:
            await asyncio.sleep(LOOK_EVERY)
        self._slots = self._slots.without(former)
        write_slots(slots_file(), self._slots)
        await self._network.empty(former)
        log.info("the former version is closed")

    async def _warm_up(self, predictor: Predictor, slot: str) -> None:
        await run_sync(predictor.faces, encode(np.zeros((64, 64, 3), np.uint8)))
        self._computed[slot] = await self._network.warm_up(slot, predictor.image_size)
