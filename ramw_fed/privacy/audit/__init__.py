"""Does the training give the privacy that is claimed? Statistics, attacks and checks on the installed product."""
