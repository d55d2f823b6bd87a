"""Answers as a table, one row a face: numbers only, never a pixel."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipeline.inference.answers import Answered, Look
from pipeline.labels import LABELS

# What `pipeline.networks.embedding` says.
EMBEDDING = ("embedding_norm", "embedding_1", "embedding_2", "embedding_3", "embedding_4")
NUMBERS = ("confidence", "brightness", "sharpness", "width", "height", "score", *EMBEDDING)
SCHEMA = pa.schema(
    {
        "time": pa.timestamp("us", "UTC"),
        "name": pa.string(),
        "version": pa.string(),
        "emotion": pa.string(),
        "probabilities": pa.list_(pa.float32(), len(LABELS)),
        **dict.fromkeys(NUMBERS, pa.float32()),
    }
)


LABEL = pa.field("label", pa.string())  # the true one, which only a reference has
REFERENCE = "reference.parquet"  # beside an exported model


def tabulate(answers: Sequence[Answered]) -> pa.Table:
    """Return answers as a table of `SCHEMA`, one row a face; what is not known is null."""
    counts = np.array([len(answer.looks) for answer in answers], int)
    outputs = np.full((counts.sum(), len(LABELS) + len(EMBEDDING)), np.nan, np.float32)
    looks = np.empty((counts.sum(), len(Look._fields)), np.float32)
    end = 0
    for answer, count in zip(answers, counts, strict=True):
        start, end = end, end + count
        outputs[start:end, : answer.outputs.shape[1]] = answer.outputs
        looks[start:end] = answer.looks
    probabilities, embedding = outputs[:, : len(LABELS)], outputs[:, len(LABELS) :]
    of_each = np.repeat(np.arange(len(answers)), counts)
    numbers = dict(zip((*Look._fields, *EMBEDDING), [*looks.T, *embedding.T], strict=True))
    numbers["confidence"] = probabilities.max(1, initial=0)
    columns = {
        "time": pa.array([answer.time for answer in answers], SCHEMA.field("time").type).take(of_each),
        "name": pa.array([answer.name for answer in answers], pa.string()).take(of_each),
        "version": pa.array([answer.version for answer in answers], pa.string()).take(of_each),
        "emotion": pa.array(LABELS).take(probabilities.argmax(1)),
        "probabilities": pa.FixedSizeListArray.from_arrays(probabilities.ravel(), len(LABELS)),
        **{name: pa.array(numbers[name], mask=np.isnan(numbers[name])) for name in NUMBERS},
    }
    return pa.table(columns, SCHEMA)
