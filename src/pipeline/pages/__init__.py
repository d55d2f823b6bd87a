"""Pages about the data, the versions and the model card: templates, and the functions that fill them in."""
