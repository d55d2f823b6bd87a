"""The seven expressions, in the one order that every array, metric and answer of this project uses."""

LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
LABEL_IDS = {label: index for index, label in enumerate(LABELS)}
