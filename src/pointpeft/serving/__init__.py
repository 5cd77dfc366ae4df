"""A service over HTTP: any number of adapters on one trunk. Needs the extra ``serve``."""
