"""What is of images alone, without models: layers, a PixelCNN, and pictures."""
