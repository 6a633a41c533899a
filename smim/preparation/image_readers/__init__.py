"""Readers of published sets of images. Each returns `base.Images` by pool: the parts into which its files divide it.

Nothing is unpickled or unpacked to disk, and the size that a file claims is checked before memory is allocated.
"""
