"""What the service is measured beside: each the same model, in a process of its own."""
