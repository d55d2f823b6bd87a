"""The tracking store and its registry: runs, registered versions, where each comes from, and the way back."""
