"""The eight stages that `dvc.yaml` runs, one module each, and `inputs`, which tells a version what it is made from."""
