"""What can be seen of a patient in the update that leaves a center: attacks on it, and how well they do."""
