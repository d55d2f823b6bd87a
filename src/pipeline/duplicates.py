"""Which faces show one picture: the same pixels, or perceptual hashes so close that only a crop or a codec differs.

How close was read off FER2013 with 256 bits. Of its 473 million pairs, those that differ in up to 56 bits are copies as
far as they were looked at; from 64 on, more and more show different people, who lie around 128 bits apart. With 64 bits
there is no such gap.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

WORDS = 4  # of 64 bits, in a hash
ROWS = 16  # of the table of distances that are computed at once: what fits into a core's cache

Hashes = NDArray[np.uint64]


def group_pictures(pixels: pd.Series, phashes: pd.Series, distance: int) -> pd.Series:
    """Name the picture that each face shows.

    Faces with equal pixels show one picture, and so do faces whose perceptual hashes (Zauner 2010) differ in few bits,
    also by way of a third face.

    Args:
        pixels: the SHA-256 of each face's decoded pixels, as hexadecimal digits.
        phashes: the perceptual hash of each face, 256 bits as 64 hexadecimal digits; null compares with none.
        distance: bits in which the perceptual hashes of one picture may differ; below 0, only equal pixels count.

    Returns:
        a name of 16 hexadecimal digits a face, in the order given: the first of the picture's pixel hashes.
    """
    distinct = pd.Series(phashes.to_numpy(), index=pixels.to_numpy())
    distinct = distinct[~distinct.index.duplicated()].sort_index()
    hashed = np.flatnonzero(distinct.notna())
    first, second = (hashed[part] for part in near_pairs(_words(distinct.iloc[hashed]), distance))
    edges = coo_array((np.ones(len(first), bool), (first, second)), shape=(len(distinct), len(distinct)))
    _, component = connected_components(edges, directed=False)
    names = distinct.index.to_series().groupby(component).transform("first").str[:16]
    return pixels.map(names)


def near_pairs(hashes: Hashes, distance: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the positions (i, j), i < j, of all pairs of hashes that differ in at most `distance` bits.

    Args:
        hashes: uint64 array (n, words).
        distance: bits.
    """
    starts = range(0, len(hashes), ROWS) if distance >= 0 else ()
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # NumPy lets the threads run side by side
        found = list(pool.map(lambda start: _near_rows(hashes, start, distance), starts))
    if not found:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    first, second = np.concatenate(found, axis=1)
    return first, second


def _near_rows(hashes: Hashes, start: int, distance: int) -> NDArray[np.intp]:
    rows, rest = hashes[start : start + ROWS], hashes[start:]
    bits = np.zeros((len(rows), len(rest)), np.uint16)
    for word in range(hashes.shape[1]):
        bits += np.bitwise_count(rows[:, word, None] ^ rest[None, :, word])
    first, second = np.nonzero(bits <= distance)
    later = second > first
    return np.stack([first[later], second[later]]) + start


def _words(phashes: pd.Series) -> Hashes:
    digits = "".join(phashes)
    return np.frombuffer(bytes.fromhex(digits), np.uint64).reshape(-1, WORDS)
