"""Pictures and videos, and the faces on them: no torch, MLflow or DVC."""
