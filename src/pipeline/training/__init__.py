"""What the stage `train` trains with: faces in batches, the LightningModule, its trainer, and what keeps it going."""
