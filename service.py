"""The Bento: a front service reads pictures and finds faces, and the network behind it answers for their crops."""

import asyncio
import atexit
import logging
import os
import shutil
import sys
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import aiohttp
import anyio
import bentoml
import numpy as np
from anyio.to_thread import run_sync
from bentoml.exceptions import BentoMLException
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "src"))  # inside a Bento the package lies beside this file and is not installed

from pipeline.answers import Answered, Look, now  # noqa: E402
from pipeline.card_files import Card  # noqa: E402
from pipeline.cores import count_cores, count_threads  # noqa: E402
from pipeline.endpoint import OverloadedError, create_app  # noqa: E402
from pipeline.errors import PipelineError  # noqa: E402
from pipeline.explain import Explanation, Form, NoFaceError, UnexplainableError, explain  # noqa: E402
from pipeline.faces import Face  # noqa: E402
from pipeline.gathering import Gathered  # noqa: E402
from pipeline.keeper import keep  # noqa: E402
from pipeline.lifeline import Lifeline, hold  # noqa: E402
from pipeline.live import load_limits  # noqa: E402
from pipeline.meters import Metered, State, count_answer, count_in, meters, timed  # noqa: E402
from pipeline.mirroring import averaged, shown  # noqa: E402
from pipeline.options import ImageOptions  # noqa: E402
from pipeline.pointer import READY_MADE, choose_model  # noqa: E402
from pipeline.predictor import AT_A_TIME, MAX_BATCH, NO_FACE, Predictor  # noqa: E402
from pipeline.protection.chain import ROUTES, Protection, who_may_ask  # noqa: E402
from pipeline.protection.exposure import KEYS, read_exposure  # noqa: E402
from pipeline.screening import load_rule  # noqa: E402
from pipeline.session import Seen  # noqa: E402
from pipeline.slots import SLOTS, Served, Slots, read_slots, write_slots  # noqa: E402
from pipeline.transforms import Image, decode, decodes_at_once, encode  # noqa: E402
from pipeline.variants import FULL, offers_file  # noqa: E402
from pipeline.watching import Options, Watch  # noqa: E402

if TYPE_CHECKING:
    from pipeline.answer_log import AnswerLog

log = logging.getLogger("bentoml.serve")  # BentoML shows this one

LOG = "FER_PREDICTIONS_LOG"
SLOTS_FILE = "FER_SLOTS"  # set here, for the processes that are started
WARM_UP_CALLS = 12  # what BentoML's batcher measures before it batches
LOOK_EVERY = 1.0  # seconds between two looks at the pointer
LOOK_AGAIN = 10.0  # seconds, where it names what can not be served
# BentoML makes spans of every request also where nobody collects them, which costs more than reading a small picture.
# Who wants traces says so in a configuration of BentoML's, and has the last word then.
TRACING: Any = {} if any(name.startswith("BENTOML_CONFIG") for name in os.environ) else {"excluded_urls": ["/"]}
FACES_A_CALL = 2 * AT_A_TIME  # of many requests; few enough that others are read and answered meanwhile
VIDEOS_WAITING = 8  # while others are watched
VIDEO_SECONDS = 50.0  # for one, its waiting included

try:
    EXPOSURE = read_exposure(os.environ)
except PipelineError as error:
    sys.exit(f"error: {error}")


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
    from pipeline.answer_log import AnswerLog  # with Arrow, which a service without a log need not hold

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


def _stamps(served: Served) -> list[tuple[int, int] | None]:
    """Return what changes when there may be another thing to serve.

    It is of the champion's pointer, of the ready-made model's beside it, and of the offer of what is served.
    """
    files = (pointer_file(), pointer_file().parent / READY_MADE, offers_file(Path(served.file)))
    return [(file.stat().st_mtime_ns, file.stat().st_ino) if file.exists() else None for file in files]


@bentoml.service(
    name="expression_classifier",
    workers=1,
    logging={"access": {"enabled": False}},  # the front service's log has every request already
    metrics={"enabled": False},  # ours are at /metrics; BentoML's would keep every path that anybody ever asked for
    # After 100 requests BentoML closes a pool of connections with requests still in it, and those fail.
    runner_connection={"max_requests": 10**9, "max_age": 1e9},
    tracing=TRACING,
)
class ExpressionClassifier:
    """The network, one batch at a time; two of them while the service goes over from one to the other."""

    def __init__(self) -> None:
        """Open what the service holds."""
        count_in(metrics_folder())
        self._lock = hold(lock_file())
        self._predictors = {slot: served.open() for slot, served in read_slots(slots_file()).models.items()}

    @bentoml.api
    def fill(self, slot: str) -> None:
        """Open what has come into a slot."""
        self._predictors[slot] = read_slots(slots_file()).models[slot].open()

    @bentoml.api
    def computation(self, slot: str) -> dict[str, Any]:
        """Return what the network in a slot is computed by: `pipeline.runtimes.Computation`."""
        return asdict(self._predictors[slot].computation)

    @bentoml.api  # BentoML's clients have a `close` of their own
    def empty(self, slot: str) -> None:
        """Let go of what is in a slot."""
        self._predictors.pop(slot, None)

    # A batch has faces of one size and answers of one network, so each slot has a queue of its own.
    # `max_latency_ms` sheds load and does not gather it: small values refuse requests that could be answered.
    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=30_000)
    def classify_a(self, faces: np.ndarray) -> np.ndarray:
        """Map uint8 faces (n, size, size, 3) to `Predictor.outputs` (n, 7 + k), by the network in the first slot."""
        return self._compute("a", faces)

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=30_000)
    def classify_b(self, faces: np.ndarray) -> np.ndarray:
        """Do the same by the network in the second slot."""
        return self._compute("b", faces)

    def _compute(self, slot: str, faces: np.ndarray) -> np.ndarray:
        meters().batch.observe(len(faces))
        with timed("compute"):
            return self._predictors[slot].outputs(faces)

    @bentoml.api
    def explain(self, slot: str, face: np.ndarray) -> dict[str, Any]:
        """Map a uint8 face (1, size, size, 3) to its probabilities (7,) and class maps (7, height, width), as lists."""
        (row,), (maps,) = self._predictors[slot].class_maps(face)
        return {"probabilities": row.tolist(), "maps": maps.tolist()}


@bentoml.service(
    name="expression_service",
    workers=1,
    traffic={"timeout": EXPOSURE.request_seconds + 5},  # `Protection` is first, and answers in our form
    # BentoML's log takes a declared type for UTF-8, and where it is not, the answer loses its body.
    logging={"access": {"enabled": not EXPOSURE.log_requests, "request_content_type": False}},
    metrics={"enabled": False},
    tracing=TRACING,
    runner_probe={"enabled": False},  # it waits for a dead network; `Lifeline` knows
)
@bentoml.asgi_app(create_app(bentoml.get_current_service))
class ExpressionService:
    """Reads, finds and cuts out in threads; only small crops of checked images go on to the network."""

    classifier = bentoml.depends(ExpressionClassifier)

    def __init__(self) -> None:
        """Open what reads pictures and finds faces; one thread a core works on them."""
        count_in(metrics_folder())
        self._lifeline = Lifeline(lock_file(), self.classifier.to_async.url, self._warm_up_network)
        self._slots = read_slots(slots_file())
        self._predictor = self._slots.served.open()
        self._threads = anyio.CapacityLimiter(count_cores())
        # A video takes long, so it has threads of its own, half as many: pictures never wait for it.
        self._videos = anyio.CapacityLimiter(max(1, count_cores() // 2))
        self._computed = dict[str, dict[str, Any]]()  # what by, by slot
        self._busy = Counter[str]()  # requests in each slot
        self._gathered = {slot: Gathered(partial(self._send, slot), FACES_A_CALL) for slot in SLOTS}
        self._log = open_log()

    @bentoml.on_deployment
    def choose() -> None:  # type: ignore[misc]
        """Choose before any process starts: all serve the same model, also one that is started again later."""
        try:
            load_rule()
            count_threads()
            load_limits()
            if logged := log_folder():
                os.environ[LOG] = str(logged)  # by its whole path: the processes of a Bento run elsewhere
            if EXPOSURE.keys:
                os.environ[KEYS] = str(EXPOSURE.keys)
            log.info(who_may_ask(EXPOSURE))
            served = Served.of(*choose_model(pointer_file()), wanted_variant())
            served.open()  # what cannot be served is told here, once, and not by processes that die in turn
            folder = tempfile.mkdtemp(prefix="expression-service-")
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            os.environ[SLOTS_FILE] = str(Path(folder) / "slots.json")
            os.environ["TMPDIR"] = folder  # of the processes; what one leaves that is killed goes with the rest
            write_slots(slots_file(), Slots({SLOTS[0]: served}, SLOTS[0]))
            keep()
        except PipelineError as error:
            sys.exit(f"error: {error}")

    @bentoml.on_startup
    async def warm_up(self) -> None:
        """Send the network some faces before anybody is told that the service is ready; then follow the pointer."""
        await self._lifeline.open()
        self._following = [asyncio.create_task(each) for each in (self._follow(), self._lifeline.follow())]

    async def __is_ready__(self) -> bool:
        """Tell BentoML what to say at /readyz."""
        return self._lifeline.is_ready

    async def __is_alive__(self) -> bool:
        """Tell BentoML what to say at /livez: only who does not come back by itself is not alive."""
        return not self._lifeline.is_dead

    def state(self) -> State:
        """Return what the service is doing now, for its metrics."""
        served = self._slots.served
        waiting = self._videos.statistics().tasks_waiting
        return State(served.name, served.version, served.variant, self._lifeline.is_ready, waiting)

    def describe(self) -> dict[str, Any]:
        """Return the model's name, version, variant, what computes it, its facts, and its card's, if it has one."""
        variant, computed = self._slots.served.variant, self._computed[self._slots.current]
        described = {**self._predictor.model, "variant": variant, **computed, "facts": self._predictor.facts}
        return {**described, "card": self._predictor.card.facts} if self._predictor.card else described

    def card(self) -> Card | None:
        """Return the card of the model that new requests go to, if it has one."""
        return self._predictor.card

    async def answer(self, image: bytes, options: ImageOptions) -> dict[str, Any]:
        """Answer for one encoded image; raises `ImageError`, or `OverloadedError` where the network has no time."""
        predictor, faces, looks, outputs = await self._see(image, options)
        if self._log and faces:  # of each face itself: references know no mirror images
            self._log.add(Answered(now(), predictor.name, predictor.version, looks, outputs[: len(faces)]))
        answer = predictor.answer(faces, averaged(outputs[:, :7], options.tta), options.top)
        count_answer(answer)
        return answer

    async def see(self, image: bytes, options: ImageOptions) -> Seen:
        """Return what is on one frame of a live session, which the log leaves out; raises as `answer`."""
        predictor, faces, _, outputs = await self._see(image, options)
        return Seen(predictor.model, faces, averaged(outputs[:, :7], options.tta))

    async def _see(
        self, image: bytes, options: ImageOptions
    ) -> tuple[Predictor, list[Face], list[Look], NDArray[np.float32]]:
        predictor, slot = self._predictor, self._slots.current  # to the end, also if the pointer moves meanwhile
        self._busy[slot] += 1
        try:
            if not options.detect and decodes_at_once(image):
                found, looks = self._find(predictor, image, options.detect)
            else:
                found, looks = await run_sync(self._find, predictor, image, options.detect, limiter=self._threads)
            faces = shown(predictor.stack(found), options.tta)
            outputs = await self._classify(faces, slot) if found else np.empty((0, 7), np.float32)
        finally:
            self._busy[slot] -= 1
        return predictor, [face for face, _ in found], looks, outputs

    @bentoml.on_shutdown
    def close(self) -> None:
        """Write what the log of predictions has not written yet."""
        if self._log:
            self._log.close()

    def _find(self, predictor: Predictor, image: bytes, detect: bool) -> tuple[list[tuple[Face, Image]], list[Look]]:
        found = self._read(predictor, image, detect)
        return found, [Look.at(face, pixels, detect) for face, pixels in found] if self._log else []

    def _read(self, predictor: Predictor, image: bytes, detect: bool) -> list[tuple[Face, Image]]:
        with timed("decode"):
            picture = decode(image)
        if not detect:
            return predictor.find(picture, detect)
        with timed("detect"):
            return predictor.find(picture)

    async def explain(self, image: bytes, detect: bool, label: str | None) -> Explanation:
        """Explain a label, by default the likeliest, for the largest face of an encoded image.

        Raises `ImageError`, `NoFaceError`, `UnexplainableError` where the model can not, or `OverloadedError`.
        """
        predictor, slot = self._predictor, self._slots.current
        if not predictor.explains:
            raise UnexplainableError(predictor.unexplained)
        self._busy[slot] += 1
        try:
            found = await run_sync(self._read, predictor, image, detect, limiter=self._threads)
            if not found:
                raise NoFaceError(NO_FACE)
            network = self.classifier.to_async
            said = await self._lifeline.ask(lambda: network.explain(slot=slot, face=predictor.stack(found[:1])))
        finally:
            self._busy[slot] -= 1
        row, maps = (np.array(said[name], np.float32) for name in ("probabilities", "maps"))
        return explain(found[0][0], not detect, row, maps, label, predictor.model)

    async def draw(self, explanation: Explanation, image: bytes, form: Form) -> bytes:
        """Return a picture of an explanation as PNG."""
        return await run_sync(explanation.as_png, image, form, limiter=self._threads)

    async def answer_video(self, video: BinaryIO, options: Options) -> dict[str, Any]:
        """Answer for a video; raises `VideoError`, or `OverloadedError` where there is no time for it."""
        if self._videos.statistics().tasks_waiting >= VIDEOS_WAITING:
            raise OverloadedError("too many videos wait already; try later")
        try:
            with anyio.fail_after(VIDEO_SECONDS):
                async with self._videos:
                    return await self._watch(video, options)
        except TimeoutError as error:
            raise OverloadedError("the video takes too long here; try later, or a shorter one") from error

    async def _watch(self, video: BinaryIO, options: Options) -> dict[str, Any]:
        predictor, slot = self._predictor, self._slots.current  # to the end, also if the pointer moves meanwhile
        self._busy[slot] += 1
        try:
            with closing(Watch(predictor, video, options)) as watch:
                while sights := await run_sync(watch.look):
                    faces = shown(watch.pixels(sights), options.tta)
                    rows = await self._classify(faces, slot) if len(faces) else np.empty((0, 7), np.float32)
                    watch.learn(sights, averaged(rows[:, :7], options.tta))
                return watch.answer()
        finally:
            self._busy[slot] -= 1

    async def _follow(self) -> None:
        """Go over to another model when the pointer names one, or another variant of it is offered.

        One that can not be served is told, and not followed.
        """
        seen, complained, excused = None, "", ""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if (stamps := _stamps(self._slots.served)) == seen:
                continue
            try:
                served, excuse = await run_sync(choose_served)
                if excuse and excuse != excused:
                    log.warning("%s version %s is served in full precision: %s", served.name, served.version, excuse)
                excused = excuse
                if served != self._slots.served:
                    await self._go_over(served)
                seen, complained = stamps, ""
            except (PipelineError, BentoMLException, aiohttp.ClientError, TimeoutError) as error:
                if str(error) != complained:
                    log.error("%s version %s stays: %s", self._predictor.name, self._predictor.version, error)
                complained = str(error)
                await asyncio.sleep(LOOK_AGAIN)

    async def _go_over(self, served: Served) -> None:
        """Open a model beside the present one, send it what comes from then on; close the former when it is idle."""
        former, slot = self._slots.current, self._slots.free
        predictor = await run_sync(served.open)
        beside = self._slots.with_model(slot, served)
        write_slots(slots_file(), beside)
        await self.classifier.to_async.call("fill", slot=slot)
        await self._warm_up(predictor, slot)
        log.info(
            "%s version %s (%s) now, after version %s (%s)",
            *(served.name, served.version, served.variant, self._predictor.version, self._slots.served.variant),
        )
        self._slots, self._predictor = beside.switched_to(slot), predictor
        write_slots(slots_file(), self._slots)
        while self._busy[former]:
            await asyncio.sleep(LOOK_EVERY)
        self._slots = self._slots.without(former)
        write_slots(slots_file(), self._slots)
        await self.classifier.to_async.call("empty", slot=former)
        log.info("the former version is closed")

    async def _warm_up(self, predictor: Predictor, slot: str) -> None:
        await run_sync(predictor.faces, encode(np.zeros((64, 64, 3), np.uint8)))
        size = predictor.image_size
        for _ in range(WARM_UP_CALLS):
            await self.classifier.to_async.call(f"classify_{slot}", np.zeros((1, size, size, 3), np.uint8))
        self._computed[slot] = await self.classifier.to_async.call("computation", slot=slot)

    async def _warm_up_network(self) -> None:
        await self._warm_up(self._predictor, self._slots.current)

    async def _classify(self, faces: np.ndarray, slot: str) -> np.ndarray:
        with timed("network"):
            return await self._gathered[slot](faces)

    async def _send(self, slot: str, faces: np.ndarray) -> np.ndarray:
        network = self.classifier.to_async
        classify = network.classify_a if slot == SLOTS[0] else network.classify_b
        parts = [faces[start : start + MAX_BATCH] for start in range(0, len(faces), MAX_BATCH)]
        return np.concatenate([await self._lifeline.ask(partial(classify, part)) for part in parts])


# Before all routes, BentoML's own too; what is refused is counted.
ExpressionService.add_asgi_middleware(Metered, routes=ROUTES)  # type: ignore[attr-defined]
ExpressionService.add_asgi_middleware(Protection, exposure=EXPOSURE)  # type: ignore[attr-defined]
