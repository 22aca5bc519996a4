"""What the coordinator runs: one line over ``ramw_fed.federation``, and how to deploy it."""
