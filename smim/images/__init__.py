"""What is of images alone: readers of published files, layers, and pictures."""
