"""From what a request sends to its answer: faces are found and cut out in threads, the network says what they show."""

from contextlib import closing
from typing import TYPE_CHECKING, Any, BinaryIO

import anyio
import numpy as np
from anyio.to_thread import run_sync
from numpy.typing import NDArray

from pipeline.inference.answers import Answered, Look, now
from pipeline.inference.card_files import Card
from pipeline.inference.cores import count_cores
from pipeline.inference.explain import Explanation, NoFaceError, UnexplainableError, explain
from pipeline.inference.mirroring import averaged, shown
from pipeline.inference.options import ExplainOptions, Form, ImageOptions, VideoOptions
from pipeline.inference.predictor import NO_FACE, Predictor
from pipeline.inference.watching import Watch
from pipeline.serving.errors import OverloadedError
from pipeline.serving.following import CurrentModel
from pipeline.serving.meters import State, count_answer, timed
from pipeline.serving.remote import RemoteNetwork
from pipeline.serving.session import Seen
from pipeline.vision.faces import Face
from pipeline.vision.transforms import Image, decode, decodes_at_once

if TYPE_CHECKING:
    from pipeline.serving.answer_log import AnswerLog

VIDEOS_WAITING = 8  # while others are watched
VIDEO_SECONDS = 50.0  # for one, its waiting included


class Answerer:
    """What the routes ask: the `pipeline.serving.endpoint.Backend` of a running service.

    Pictures are read, and faces found, in one thread a core; only small crops of checked images go on to the network.
    """

    def __init__(self, model: CurrentModel, network: RemoteNetwork, log: "AnswerLog | None") -> None:
        """Take what answers, and what keeps the answers, if they shall be kept."""
        self._model, self._network, self._log = model, network, log
        self._threads = anyio.CapacityLimiter(count_cores())
        # A video takes long, so it has threads of its own, half as many: pictures never wait for it.
        self._videos = anyio.CapacityLimiter(max(1, count_cores() // 2))

    def state(self) -> State:
        """Return what the service is doing now, for its metrics."""
        served = self._model.served
        waiting = self._videos.statistics().tasks_waiting
        return State(served.name, served.version, served.variant, self._network.is_ready, waiting)

    def describe(self) -> dict[str, Any]:
        """Return the model's name, version, variant, what computes it, its facts, and its card's, if it has one."""
        predictor, variant, computed = self._model.predictor, self._model.served.variant, self._model.computation
        described = {**predictor.model, "variant": variant, **computed, "facts": predictor.facts}
        return {**described, "card": predictor.card.facts} if predictor.card else described

    def card(self) -> Card | None:
        """Return the card of the model that new requests go to, if it has one."""
        return self._model.predictor.card

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

    async def explain(self, image: bytes, options: ExplainOptions) -> Explanation:
        """Explain a label, by default the likeliest, for the largest face of an encoded image.

        Raises `ImageError`, `NoFaceError`, `UnexplainableError` where the model can not, or `OverloadedError`.
        """
        with self._model.held() as (predictor, slot):
            if not predictor.explains:
                raise UnexplainableError(predictor.unexplained)
            found = await run_sync(self._read, predictor, image, options.detect, limiter=self._threads)
            if not found:
                raise NoFaceError(NO_FACE)
            row, maps = await self._network.explain(slot, predictor.stack(found[:1]))
        return explain(found[0][0], not options.detect, row, maps, options.label, predictor.model)

    async def draw(self, explanation: Explanation, image: bytes, form: Form) -> bytes:
        """Return a picture of an explanation as PNG."""
        return await run_sync(explanation.as_png, image, form, limiter=self._threads)

    async def answer_video(self, video: BinaryIO, options: VideoOptions) -> dict[str, Any]:
        """Answer for a video; raises `VideoError`, or `OverloadedError` where there is no time for it."""
        if self._videos.statistics().tasks_waiting >= VIDEOS_WAITING:
            raise OverloadedError("too many videos wait already; try later")
        try:
            with anyio.fail_after(VIDEO_SECONDS):
                async with self._videos:
                    return await self._watch(video, options)
        except TimeoutError as error:
            raise OverloadedError("the video takes too long here; try later, or a shorter one") from error

    def close(self) -> None:
        """Write what the log of predictions has not written yet."""
        if self._log:
            self._log.close()

    async def _see(
        self, image: bytes, options: ImageOptions
    ) -> tuple[Predictor, list[Face], list[Look], NDArray[np.float32]]:
        with self._model.held() as (predictor, slot):
            if not options.detect and decodes_at_once(image):
                found, looks = self._find(predictor, image, options.detect)
            else:
                found, looks = await run_sync(self._find, predictor, image, options.detect, limiter=self._threads)
            outputs = await self._network.classify(slot, shown(predictor.stack(found), options.tta))
        return predictor, [face for face, _ in found], looks, outputs

    async def _watch(self, video: BinaryIO, options: VideoOptions) -> dict[str, Any]:
        with self._model.held() as (predictor, slot), closing(Watch(predictor, video, options)) as watch:
            while sights := await run_sync(watch.look):
                rows = await self._network.classify(slot, shown(watch.pixels(sights), options.tta))
                watch.learn(sights, averaged(rows[:, :7], options.tta))
            return watch.answer()

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
