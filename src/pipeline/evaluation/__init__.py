"""How good a version is, on which faces, how sure that is, and the pictures and pages that show it."""
