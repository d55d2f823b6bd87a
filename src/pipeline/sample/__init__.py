"""The embedded sample: four drawn datasets in the layouts of the public downloads, the same bytes every time."""

from collections.abc import Iterator

from pipeline.errors import PipelineError
from pipeline.sample.layouts import LAYOUTS, File

__all__ = ["draw"]


def draw(dataset: str, faces_per_class: int = 80, seed: int = 0) -> Iterator[File]:
    """Draw a dataset, file by file, as its public download lays it out.

    As in the real FER2013, some of its files are byte-identical: for every fiftieth PrivateTest face (at least one; 4
    of 224 at 160 faces a class) one Training face of the same class is replaced by a copy, and the last Training face
    of `fear` by that of `surprise`, a group with conflicting labels. In `wild` every 33rd picture shows no face (its
    person has turned away or left) and every 19th a second, smaller one.

    Args:
        dataset: `fer2013`, `rafdb`, `affectnet` or `wild`.
        faces_per_class: faces of each class over all splits, at least 3; `wild` has a quarter as many people.
        seed: another seed gives other faces.

    Returns:
        Pairs of a path with forward slashes, relative to the download's root, and the file's content.

    Raises:
        PipelineError: if the dataset is unknown or `faces_per_class` is too small to fill every split.
    """
    if dataset not in LAYOUTS:
        raise PipelineError(f"there is no sample of {dataset!r}; the samples are {', '.join(LAYOUTS)}")
    if faces_per_class < 3:
        raise PipelineError(f"faces_per_class is {faces_per_class}; at least 3 are needed, one for every split")
    return LAYOUTS[dataset](faces_per_class, seed)
