"""Detectors, a paper a file."""
