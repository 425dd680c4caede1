"""Live calls: one task group per call, and the registry of them."""
