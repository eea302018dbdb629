"""Lanes: the state of each outside dependency, so that a slow one delays nobody but itself."""
