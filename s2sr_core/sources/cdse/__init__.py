"""The client of Copernicus Data Space: its catalogue, its identity service, its bytes."""
