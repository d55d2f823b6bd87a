"""What a camera makes of a drawing: a smaller picture with its exposure, blur and noise, as JPEG."""

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.sample.pen import Canvas


@dataclass(frozen=True)
class Camera:
    """How a dataset's pictures were taken.

    `noise` is the strongest in grey levels, `blur` the largest sigma in pixels, `quality` that of the JPEG (0..100).
    """

    noise: float
    blur: float
    quality: int
    grey: bool = False

    def take(
        self,
        canvas: Canvas,
        size: tuple[int, int],
        rng: np.random.Generator,
        film: np.random.Generator | None = None,
    ) -> bytes:
        """Shrink a canvas to `size` (width, height), add exposure, blur and noise, and encode it as JPEG.

        With a `film`, the grain is drawn from it: pictures of the same `rng` then differ in nothing else.
        """
        picture = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY if self.grey else cv2.COLOR_RGB2BGR)
        if (sigma := rng.uniform(0, self.blur)) > 0.2:
            picture = cv2.GaussianBlur(picture, (0, 0), sigma)
        exposed = np.clip((np.arange(256) - 128) * rng.uniform(0.75, 1.1) + rng.normal(128, 12), 0, 255)
        picture = cv2.LUT(picture, exposed.astype(np.uint8))
        # Evenly distributed noise, of deviation 74, looks like normal noise and is drawn several times faster.
        grain = np.frombuffer((film or rng).bytes(size[0] * size[1]), np.int8).reshape(picture.shape[:2])
        grain = grain * np.float32(self.noise * rng.uniform(0.3, 1) / 74)
        picture = cv2.add(picture, grain if self.grey else cv2.merge([grain] * 3), dtype=cv2.CV_8U)
        _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        return data.tobytes()
