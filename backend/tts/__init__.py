"""Speech routes: one adapter a file, each giving timed PCM."""
