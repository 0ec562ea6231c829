"""Finds the sample data, and the folder for what the examples write."""

from pathlib import Path

DATA = Path(__file__).parent / "data"
OUTPUT = Path(__file__).parent / "output"
