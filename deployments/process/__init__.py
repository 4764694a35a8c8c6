"""What concerns this process alone: its signals."""
