"""What a backbone is adapted for: each task owns its network, loss, scores and predictions."""
