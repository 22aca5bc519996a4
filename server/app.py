"""The coordinator as a Flower app."""

from ramw_fed.federation.apps import server_app

app = server_app()
