"""Files of weights as the published repositories keep them."""
