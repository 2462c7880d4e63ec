"""From expression files to a Dataset."""
