"""Ears: voice activity and speech-to-text, one adapter a file."""
