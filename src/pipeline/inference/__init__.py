"""Answers of an exported model, with a service or without: no torch, MLflow or DVC."""
