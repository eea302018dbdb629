"""`longshore bench`: what is claimed about speed, measured beside its floors and peers in the same run."""
