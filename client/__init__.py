"""What a center runs: one line over ``ramw_fed.federation``, and how to deploy it."""
