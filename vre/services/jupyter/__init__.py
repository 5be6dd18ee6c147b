"""Jupyter: notebooks in the browser."""
