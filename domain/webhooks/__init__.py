"""Webhooks out: who subscribed to what, how a delivery is signed, and what an answer means."""
