"""Measures of what a network answers against what is true."""
