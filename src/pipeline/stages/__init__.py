"""The stages that `dvc.yaml` runs, one module each."""
