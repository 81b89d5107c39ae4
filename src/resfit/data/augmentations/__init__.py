"""What can be done to a batch of uint8 images (N, height, width, channels): pure functions, chance elsewhere."""
