"""The four datasets as their public downloads lay them out, one adapter each, all giving the same pictures."""

from pipeline.sources import affectnet, fer2013, rafdb, wild
from pipeline.sources.picture import Picture, Source

SOURCES: dict[str, Source] = {
    source.name: source for source in (fer2013.SOURCE, rafdb.SOURCE, affectnet.SOURCE, wild.SOURCE)
}

__all__ = ["SOURCES", "Picture", "Source"]
