"""Tables and pictures of what a run found."""
