"""A center as a Flower app."""

from ramw_fed.federation.apps import client_app

app = client_app()
