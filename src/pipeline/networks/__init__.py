"""The networks, and checkpoints, which are how trained ones are kept."""
