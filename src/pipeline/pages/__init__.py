"""The templates of the pages that are written, and what they share."""
