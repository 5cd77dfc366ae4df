"""The published command line."""
