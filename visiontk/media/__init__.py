"""Images and videos to pixels, and pictures of results: numpy, Pillow and PyAV, no models."""
