"""The model card: its facts, its words, and what must not be passed over in silence."""
