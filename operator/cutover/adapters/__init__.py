"""The outside world behind the protocols of :mod:`cutover.ports`."""
