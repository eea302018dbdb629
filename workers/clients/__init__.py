"""The real side of the outside world: one door per outside system."""
