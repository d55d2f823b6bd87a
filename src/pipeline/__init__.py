"""An MLOps pipeline for facial-expression recognition: data, training, registry and endpoint."""

import os

# GNU OpenMP's threads spin for long while they wait for each other, and training slows down thirtyfold as soon as
# anything else needs a core. With a short spin it is as fast alone, and half as fast beside another. Read by torch.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# These libraries report home, or look for a newer release, the moment they are imported.
for _name, _value in {
    "BENTOML_DO_NOT_TRACK": "True",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime
    "NO_ALBUMENTATIONS_UPDATE": "1",
}.items():
    os.environ.setdefault(_name, _value)
