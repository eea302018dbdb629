"""The outside world in miniature, for development: a mail inbox, a webhook receiver, and the settings of `up`."""
