"""Reports: asked for, written row by row, downloaded."""
