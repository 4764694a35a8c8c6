"""Phase 1: from a product to a scene with its VRTs, and which of its pixels count."""
