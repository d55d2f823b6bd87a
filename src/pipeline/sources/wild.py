"""Pictures from the wild: whole photographs with background, of any size, with no, one or several faces.

Two layouts: `images/<person>/<Expression>.jpg` (Kaggle), where the file's name is the label, and `<class>/<image>`
(any own collection), where the folder's name is.
"""

from pathlib import PurePosixPath

from pipeline.labels import LABELS
from pipeline.sources.picture import Place, Source

ALIASES = {
    **{label: label for label in LABELS},
    "afraid": "fear",
    "anger": "angry",
    "contempt": "contempt",
    "disgusted": "disgust",
    "fearful": "fear",
    "happiness": "happy",
    "sadness": "sad",
    "scared": "fear",
    "surprised": "surprise",
}


def _locate(path: str) -> Place | None:
    file = PurePosixPath(path)
    folder = file.parent.name
    if not folder:
        return None
    if folder.lower() in ALIASES:
        return Place(folder.lower(), "none")
    if file.stem.lower() in ALIASES:
        return Place(file.stem.lower(), "none", person=folder)
    return Place(folder.lower(), "none")


SOURCE = Source(
    name="wild",
    handle="tapakah68/facial-emotion-recognition",
    layout="<class>/<image>, or images/<person>/<Expression>.jpg",
    cropped=False,
    label_maps={"names": ALIASES},
    locate=_locate,
)
