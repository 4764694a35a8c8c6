"""Phase 1: from a product to a scene with its VRTs, and the pixels of it that count."""
