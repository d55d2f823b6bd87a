"""A client of the endpoint: answers as dictionaries, refusals as exceptions."""

from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import requests

from pipeline.errors import PipelineError
from pipeline.transforms import ImageError
from pipeline.video import VideoError

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
        if key:
            self._session.headers["X-API-Key"] = key  # and no Authorization, which requests takes from ~/.netrc

    def predict(self, image: bytes, detect: bool = True) -> dict[str, Any]:
        """Return the answer for an encoded image: `faces`, `model`, and a `note` where no face was found.

        Args:
            image: JPEG, PNG, WebP or BMP.
            detect: look for faces; else the whole image is taken for one.

        Raises:
            ImageError: if the service refuses the image.
            PipelineError: if it can not be asked, or has no time.
        """
        return self._ask("POST", f"/predict?detect={str(detect).lower()}", data=image)

    def predict_batch(self, images: Sequence[bytes], detect: bool = True) -> list[dict[str, Any]]:
        """Return the answers for several images, in order; one that is refused has `error` and `status` instead.

        Raises:
            PipelineError: as `predict`; also if all together are too many or too large.
        """
        files = [("images", (str(number), image)) for number, image in enumerate(images)]
        try:
            return self._ask("POST", f"/predict_batch?detect={str(detect).lower()}", files=files)["answers"]
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
        self, video: BinaryIO, fps: float = 2.0, smoothing: float = 0.5, detect: bool = True
    ) -> dict[str, Any]:
        """Return the answer for a video: `frames`, `overall`, `tracks`, `model`, and a `note` where no face was found.

        Args:
            video: MP4 or WebM, open for reading; it is sent as it is read.
            fps: frames a second that are looked at.
            smoothing: time constant in seconds, over which what is read in a face is smoothed; 0 for not at all.
            detect: look for faces; else each whole frame is taken for one.

        Raises:
            VideoError: if the service refuses the video.
            PipelineError: if it can not be asked, or has no time.
        """
        path = f"/predict_video?fps={fps}&smoothing={smoothing}&detect={str(detect).lower()}"
        try:
            return self._ask("POST", path, data=video)
        except ImageError as error:
            raise VideoError(str(error)) from error

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
