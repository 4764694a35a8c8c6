"""What concerns this process alone: its signals, and the account in its environment."""
