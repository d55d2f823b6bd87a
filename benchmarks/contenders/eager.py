"""The reference system's way in a FastAPI app: decode, one frame a call, eager torch: `eager.py NAME PORT`.

Its weights are random where the other contenders serve the ready-made model; that takes as long.
"""

import sys
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, UploadFile

from contenders.networks import build, recipe_of
from pipeline.labels import LABELS
from pipeline.vision.transforms import decode, resize

name = sys.argv[1]
network, size = build(name), recipe_of(name).image_size
app = FastAPI()


@app.post("/predict")
async def predict(image: UploadFile) -> dict[str, Any]:
    """Answer for one image, and for no other meanwhile."""
    face = resize(decode(await image.read()), size)
    with torch.inference_mode():
        row = torch.softmax(network(torch.from_numpy(face)[None]), dim=1)[0].tolist()
    return {"faces": [{"probabilities": dict(zip(LABELS, row, strict=True))}]}


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
