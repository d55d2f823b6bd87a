"""A running service: its routes, what it answers with, what stands before it, and what keeps it running.

Nothing here needs torch, MLflow or DVC: the Bento goes without them. What answers for a picture, with or without a
service, is `pipeline.inference.predictor`.
"""
