"""What a run is going to do: checks before any work, units of work, their order."""
