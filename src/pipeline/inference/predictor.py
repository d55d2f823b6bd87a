"""From the bytes of a picture to the expressions on it, with an exported model and nothing of the training code."""

import json
import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.inference.card_files import Card, read_card
from pipeline.inference.mirroring import averaged, shown
from pipeline.inference.options import TOP
from pipeline.inference.parts import Parts
from pipeline.inference.pointer import DETECTOR_FILE, SAMPLE_SUFFIX
from pipeline.inference.runtimes import ONNXRUNTIME, Computation, Session, open_onnxruntime, open_session
from pipeline.inference.variants import FULL
from pipeline.labels import LABELS
from pipeline.vision.detectors import load_detector
from pipeline.vision.faces import Detector, Face, crop
from pipeline.vision.transforms import Image, decode, resize

log = logging.getLogger(__name__)

SAMPLE_WARNING = "trained on drawn faces to try out the pipeline; not for real use"
NO_FACE = "no face was found in the image; send a ready crop with ?detect=false"


class Predictor:
    """An exported model with the detection and the preprocessing that it was trained with; safe among threads."""

    def __init__(
        self, model_file: Path, *, name: str, version: str, yunet: Path | None = None, runtime: str = ONNXRUNTIME
    ) -> None:
        """Open a model that `pipeline.packaging.export` wrote.

        Args:
            model_file: the ONNX file.
            name: what the registry calls the model.
            version: its version there.
            yunet: YuNet's ONNX file; by default the one that lies beside a model that was trained with it.
            runtime: what computes the network; see `pipeline.inference.runtimes`.

        Raises:
            PipelineError: if the file is no such model, or its labels are not those of this code.
        """
        if yunet and not yunet.is_file():
            raise PipelineError(f"there is no face detector {yunet}; unset it to use the one inside OpenCV")
        self.name = name
        self.version = version
        self.runtime = runtime
        self.facts, self.explains = _read_facts(model_file)
        self.image_size: int = self.facts["image_size"]
        self.model_file = model_file
        beside = model_file.parent / DETECTOR_FILE
        self.yunet = yunet or (beside if beside.is_file() else None)
        self._idle_detectors = [self._load_detector()]
        trained_with, used = self.facts.get("detector"), self._idle_detectors[0].name
        if trained_with not in (None, used):
            log.warning("the model was trained on faces found by %s, and %s is used here", trained_with, used)

    @property
    def model(self) -> dict[str, str]:
        """Name and version, as every answer carries them, with a warning where the model is not for real use."""
        model = {"name": self.name, "version": self.version}
        if self.name.endswith(SAMPLE_SUFFIX):
            model["warning"] = SAMPLE_WARNING
        return model

    @cached_property
    def card(self) -> Card | None:
        """The model's card, if it lies beside the file."""
        return read_card(self.model_file.parent, self.facts.get("weights_sha256"))

    @property
    def unexplained(self) -> str:
        """Why there are no class maps, where there are none."""
        return (
            f"{self.name} version {self.version} can not explain its answers: its network has no map of features, or "
            "it was exported before these were kept"
        )

    def faces(self, image: bytes, detect: bool = True) -> list[tuple[Face, Image]]:
        """Find the faces of an encoded image and cut them out, the largest first.

        Args:
            image: the bytes of a JPEG, PNG, WebP or BMP file.
            detect: whether to look for faces; otherwise the whole image is one.

        Returns:
            Each face with its pixels as the network wants them, uint8 RGB (size, size, 3).

        Raises:
            pipeline.vision.transforms.ImageError: if the bytes are no usable image.
        """
        return self.find(decode(image), detect)

    def find(self, picture: Image, detect: bool = True) -> list[tuple[Face, Image]]:
        """Do the same for a decoded picture, uint8 RGB (height, width, 3)."""
        if not detect:
            height, width = picture.shape[:2]
            return [(Face((0, 0, width, height), 1.0), resize(picture, self.image_size))]
        found = self._find(picture)
        return [(face, resize(crop(picture, face), self.image_size)) for face in found]

    def probabilities(self, faces: NDArray[np.uint8], tta: bool = False) -> NDArray[np.float32]:
        """Classify faces: uint8 RGB (n, size, size, 3) to float32 (n, 7), each row a distribution over `LABELS`.

        With `tta` it is the mean over each face and its mirror image.
        """
        return averaged(self.outputs(shown(faces, tta))[:, : len(LABELS)], tta)

    def outputs(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return all that the model says of faces (n, size, size, 3): float32 (n, 7 + k).

        Behind the seven probabilities come the k numbers of its summary of a face's features, where it has one (see
        `pipeline.networks.embedding`).
        """
        return self._parts.outputs(faces)

    def class_maps(self, faces: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return what `probabilities` does, and what each place adds to each label's logit: (n, 7, height, width).

        It is positive where a place speaks for the label; see `pipeline.packaging.class_maps`.

        Raises:
            PipelineError: if the model does not tell.
        """
        if not self.explains:
            raise PipelineError(self.unexplained)
        asked = {"faces": np.ascontiguousarray(faces), "explain": np.array(True)}
        rows, maps = self._session.run(["probabilities", "maps"], asked)
        return rows, maps

    def answer(self, faces: Sequence[Face], probabilities: NDArray[np.float32], top: int = TOP) -> dict[str, Any]:
        """Build the answer for one image from its n faces and their probabilities (n, 7); it is ready for JSON."""
        answer: dict[str, Any] = {
            "faces": [describe_face(face, row, top) for face, row in zip(faces, probabilities, strict=True)],
            "model": self.model,
        }
        if not faces:
            answer["note"] = NO_FACE
        return answer

    def predict(self, image: bytes, detect: bool = True, top: int = TOP, tta: bool = False) -> dict[str, Any]:
        """Go the whole way from an encoded image to its answer.

        Args:
            image, detect: as for `faces`, which also says what is raised.
            top: how many of the likeliest labels are listed, 1 to 7.
            tta: answer with the mean over each face and its mirror image.
        """
        found = self.faces(image, detect)
        rows = self.probabilities(self.stack(found), tta)
        return self.answer([face for face, _ in found], rows, top)

    def stack(self, found: Sequence[tuple[Face, Image]]) -> NDArray[np.uint8]:
        """Put the pixels of what `faces` found into one array (n, size, size, 3); n may be 0."""
        pixels = [pixels for _, pixels in found]
        return np.stack(pixels) if pixels else np.empty((0, self.image_size, self.image_size, 3), np.uint8)

    @property
    def computation(self) -> Computation:
        """What the network is computed by; it is opened for that."""
        return self._opened[1]

    @property
    def _session(self) -> Session:
        return self._opened[0]

    @cached_property
    def _opened(self) -> tuple[Session, Computation]:
        # At the first use: a process that only finds faces need not hold the network.
        return self._open()

    def _open(self, threads: int | None = None) -> tuple[Session, Computation]:
        return open_session(self.model_file, self.runtime, self.facts.get("variant", FULL), threads)

    @cached_property
    def _parts(self) -> Parts:
        return Parts(self._session, self.computation, self.image_size, lambda: self._open(threads=1)[0])

    def _load_detector(self) -> Detector:
        return load_detector(self.yunet, self.facts.get("detector"))

    def _find(self, picture: Image) -> list[Face]:
        # OpenCV's detectors keep the picture they work on in themselves, so no two threads may share one.
        try:
            detector = self._idle_detectors.pop()
        except IndexError:
            detector = self._load_detector()
        try:
            return detector(picture)
        finally:
            self._idle_detectors.append(detector)


def _read_facts(model_file: Path) -> tuple[dict[str, Any], bool]:
    """Return the facts in a model's metadata, and whether it has class maps."""
    session = open_onnxruntime(model_file, ["CPUExecutionProvider"], 1, optimize=False)
    try:
        facts = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    except ValueError as error:
        raise PipelineError(
            f"{model_file}: the metadata is not JSON; export it with `pipeline.packaging.export`"
        ) from error
    if facts.get("labels") != list(LABELS):
        raise PipelineError(f"{model_file} has the labels {facts.get('labels')}, and this code {list(LABELS)}")
    size = facts.get("image_size")
    shapes = {value.name: value.shape[1:] for value in (*session.get_inputs(), *session.get_outputs())}
    shapes.pop("embedding", None)  # a second output, which a model need not have
    explains = shapes.pop("maps", None) is not None  # and a third
    if shapes != {"faces": [size, size, 3], "probabilities": [len(LABELS)]}:
        raise PipelineError(
            f"{model_file} has the inputs and outputs {shapes}; export it with `pipeline.packaging.export`"
        )
    return facts, explains


def describe_face(face: Face, row: NDArray[np.float32], top: int = TOP) -> dict[str, Any]:
    """Say what was read in a face, probabilities (7,), with the `top` likeliest labels; it is ready for JSON."""
    ranked = sorted(zip(LABELS, row.tolist(), strict=True), key=lambda pair: -pair[1])
    return {
        "box": list(face.box),
        "score": face.score,
        "emotion": ranked[0][0],
        "confidence": ranked[0][1],
        "probabilities": dict(zip(LABELS, row.tolist(), strict=True)),
        "top": [list(pair) for pair in ranked[:top]],
    }
