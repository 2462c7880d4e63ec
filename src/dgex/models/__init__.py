"""Models: what infers targets from landmarks, and how it is trained and kept."""
