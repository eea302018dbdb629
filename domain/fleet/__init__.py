"""The processes of the fleet, as they report themselves."""
