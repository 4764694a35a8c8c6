"""The recipe: select gridcells, find products, download and prepare them, composite cells, publish."""
