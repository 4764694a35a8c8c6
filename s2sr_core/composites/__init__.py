"""Phase 2: from the scenes of a gridcell to its composites and their records."""
