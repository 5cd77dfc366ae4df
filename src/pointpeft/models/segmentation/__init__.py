"""Part segmentation: a label for every point, on each backbone."""
