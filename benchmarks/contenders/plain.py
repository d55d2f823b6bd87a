"""The model in a plain FastAPI app, one image a call, as most would write it: `plain.py MODEL PORT`."""

import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, UploadFile

from pipeline.inference.predictor import Predictor

predictor = Predictor(Path(sys.argv[1]), name="plain", version="1")
app = FastAPI()


@app.post("/predict")
def predict(image: UploadFile) -> dict[str, Any]:
    """Answer for one image; FastAPI runs this in a thread."""
    return predictor.predict(image.file.read(), detect=False)


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
