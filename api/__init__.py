"""HTTP in: validates, authorises, writes through domain, answers. Never imports workers or dramatiq."""
