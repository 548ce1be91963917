"""Who got what, and what came of it: exposures, outcomes, their join, and roll-ups that an analysis reads."""
