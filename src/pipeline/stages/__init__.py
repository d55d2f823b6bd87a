"""The stages that `dvc.yaml` and `zoo/dvc.yaml` run, one module each."""
