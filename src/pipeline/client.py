"""A client of the endpoint: answers as dictionaries, refusals as exceptions."""

import queue
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

import httpx
import requests
from httpx_ws import HTTPXWSException, WebSocketDisconnect, WebSocketNetworkError, WebSocketSession, connect_ws
from wsproto.utilities import LocalProtocolError

from pipeline.errors import PipelineError
from pipeline.inference.options import TOP, LiveOptions
from pipeline.vision.transforms import ImageError
from pipeline.vision.video import VideoError

ADDRESS = "http://localhost:3000"
REFUSED = {400, 413, 415, 422}  # it is what was sent, not the service

Read = Callable[[requests.Response], Any]


class Client:
    """Asks a running service; may be used from several threads, one at a time each."""

    def __init__(self, address: str = ADDRESS, timeout: float = 60.0, key: str | None = None) -> None:
        """Take the service's address, the seconds after which an answer is not waited for any more, and a key.

        The key is one of the service's (`pipeline keys add`), where it asks for one.
        """
        self.address, self.timeout = address.rstrip("/"), timeout
        self._session = requests.Session()
        self._key = {"X-API-Key": key} if key else {}  # and no Authorization, which requests takes from ~/.netrc
        self._session.headers.update(self._key)

    def predict(self, image: bytes, detect: bool = True, top: int = TOP, tta: bool = False) -> dict[str, Any]:
        """Return the answer for an encoded image: `faces`, `model`, and a `note` where no face was found.

        Args:
            image: JPEG, PNG, WebP or BMP.
            detect: look for faces; else the whole image is taken for one.
            top: how many of the likeliest labels are listed, 1 to 7.
            tta: answer with the mean over each face and its mirror image.

        Raises:
            ImageError: if the service refuses the image.
            PipelineError: if it can not be asked, or has no time.
        """
        return self._ask("POST", "/predict", params=_query(detect=detect, top=top, tta=tta), data=image)

    def predict_batch(
        self, images: Sequence[bytes], detect: bool = True, top: int = TOP, tta: bool = False
    ) -> list[dict[str, Any]]:
        """Return the answers for several images, in order; one that is refused has `error` and `status` instead.

        Raises:
            PipelineError: as `predict`; also if all together are too many or too large.
        """
        files = [("images", (str(number), image)) for number, image in enumerate(images)]
        try:
            query = _query(detect=detect, top=top, tta=tta)
            return self._ask("POST", "/predict_batch", params=query, files=files)["answers"]
        except ImageError as error:
            raise PipelineError(str(error)) from error

    def explain(self, image: bytes, label: str | None = None, detect: bool = True, form: str = "overlay") -> bytes:
        """Return a PNG that shows which places of the largest face spoke for a label.

        Args:
            image: JPEG, PNG, WebP or BMP.
            label: by default the one that is answered.
            detect: look for faces; else the whole image is taken for one.
            form: over the image (`overlay`), or in grey on its own (`map`).

        Raises:
            ImageError: if the service refuses the image, or finds no face on it.
            PipelineError: if it can not be asked, has no time, or has a model that can not be explained.
        """
        chosen = {"detect": str(detect).lower(), "form": form} | ({"label": label} if label else {})
        return self._ask("POST", "/explain", lambda answer: answer.content, params=chosen, data=image)

    def predict_video(
        self, video: BinaryIO, fps: float = 2.0, smoothing: float = 0.5, detect: bool = True, tta: bool = False
    ) -> dict[str, Any]:
        """Return the answer for a video: `frames`, `overall`, `tracks`, `model`, and a `note` where no face was found.

        Args:
            video: MP4 or WebM, open for reading; it is sent as it is read.
            fps: frames a second that are looked at.
            smoothing: time constant in seconds, over which what is read in a face is smoothed; 0 for not at all.
            detect: look for faces; else each whole frame is taken for one.
            tta: read in each face the mean over it and its mirror image.

        Raises:
            VideoError: if the service refuses the video.
            PipelineError: if it can not be asked, or has no time.
        """
        query = _query(fps=fps, smoothing=smoothing, detect=detect, tta=tta)
        try:
            return self._ask("POST", "/predict_video", params=query, data=video)
        except ImageError as error:
            raise VideoError(str(error)) from error

    def live(self, frames: Iterable[bytes], options: LiveOptions | None = None) -> Iterator[dict[str, Any]]:
        """Give the answer for one frame of a camera after the other, in a session of its own.

        Args:
            frames: encoded images; the next one is taken when the one before is answered.
            options: how to look at them.

        Yields:
            `faces`, each with its `track` and its probabilities smoothed over time, `frame`, `time`, `dropped`,
            `model`, and a `note` where no face was found; or `error` and `status` for a frame that can not be read.

        Raises:
            PipelineError: if the service can not be asked, or ends the session.
        """
        address = self.address + "/live"
        try:
            session: WebSocketSession
            with connect_ws(address, headers=self._key) as session:
                # Where the service has ended it already, sending fails, and receiving tells why.
                with suppress(LocalProtocolError, WebSocketNetworkError):
                    session.send_text((options or LiveOptions()).model_dump_json())
                for frame in frames:
                    with suppress(LocalProtocolError, WebSocketNetworkError):
                        session.send_bytes(frame)
                    yield session.receive_json(timeout=self.timeout)
        except WebSocketDisconnect as error:
            raise PipelineError(f"{address} ended the session: {error.reason or error.code}") from error
        except (HTTPXWSException, httpx.HTTPError, queue.Empty) as error:
            raise PipelineError(f"{address} can not be asked ({error!r}); is it served there?") from error

    def model(self) -> dict[str, Any]:
        """Return name, version and facts of the model that is served.

        Raises:
            PipelineError: if the service can not be asked.
        """
        return self._ask("GET", "/model")

    def _ask(self, method: str, path: str, read: Read = requests.Response.json, **sent: Any) -> Any:
        try:
            answer = self._session.request(method, self.address + path, timeout=self.timeout, **sent)
            content = read(answer) if answer.ok else answer.json()
        except requests.RequestException as error:
            raise PipelineError(f"{self.address} can not be asked ({error}); is it served there?") from error
        if answer.status_code in REFUSED:
            raise ImageError(content.get("error", answer.reason))
        if not answer.ok:
            raise PipelineError(f"{self.address} answered {answer.status_code}: {content.get('error', answer.reason)}")
        return content


def _query(**options: bool | float) -> dict[str, str]:
    return {name: str(value).lower() for name, value in options.items()}
