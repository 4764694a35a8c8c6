"""The recipe: select gridcells, index scenes, prepare scenes, composite cells, write manifests."""
