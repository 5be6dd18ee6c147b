"""Releases of the base image: what is in one, who signed it, which one is current."""
