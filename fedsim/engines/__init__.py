"""Where clients run; never what they compute."""
