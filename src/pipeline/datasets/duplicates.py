"""Which faces show one picture: the same pixels, or perceptual hashes so close that only a crop or a codec differs.

How close was read off FER2013 with 256 bits. Of its 473 million pairs, those that differ in up to 56 bits are copies as
far as they were looked at; from 64 on, more and more show different people, who lie around 128 bits apart. With 64 bits
there is no such gap.
"""

from collections.abc import Iterable

import faiss
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

AT_ONCE = 4096  # hashes that are looked for at once

Hashes = NDArray[np.uint8]


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
    # A graph of pictures and, after them, hashes: any number of pictures may have one hash, as all blank ones do.
    count, (hash_of, hashes) = len(distinct), pd.factorize(distinct)
    hashed = np.flatnonzero(hash_of >= 0) if distance >= 0 else np.empty(0, np.intp)
    near = near_pairs(_bytes(hashes), distance) if len(hashed) else (hashed, hashed)
    first = np.concatenate([hashed, count + near[0]])
    second = np.concatenate([count + hash_of[hashed], count + near[1]])
    component = connect(count + len(hashes), first, second)[:count]
    names = distinct.index.to_series().groupby(component).transform("first").str[:16]
    return pixels.map(names)


def connect(nodes: int, first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.int32]:
    """Number the connected components of a graph.

    Args:
        nodes: how many there are.
        first: the node at one end of each edge.
        second: the node at its other end.

    Returns:
        the number of its component a node, equal where there is a way.
    """
    edges = coo_array((np.ones(len(first), bool), (first, second)), shape=(nodes, nodes))
    return connected_components(edges, directed=False)[1]


def near_pairs(hashes: Hashes, distance: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the positions (i, j), i < j, of all pairs of hashes that differ in at most `distance` bits.

    Args:
        hashes: uint8 array (n, bytes).
        distance: bits.
    """
    index = faiss.IndexBinaryFlat(8 * hashes.shape[1])
    index.add(hashes)
    pairs = [np.empty((2, 0), np.intp)]
    for start in tqdm(range(0, len(hashes), AT_ONCE), "look for copies", mininterval=1, disable=None):
        limits, _, second = index.range_search(hashes[start : start + AT_ONCE], distance + 1)  # less than that
        first = start + np.repeat(np.arange(len(limits) - 1), limits[1:].astype(np.intp) - limits[:-1].astype(np.intp))
        pairs.append(np.stack([first, second])[:, first < second])
    first, second = np.concatenate(pairs, axis=1)
    return first, second


def _bytes(hashes: Iterable[str]) -> Hashes:
    return np.array([np.frombuffer(bytes.fromhex(digits), np.uint8) for digits in hashes])
