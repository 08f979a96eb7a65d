"""Four cutovers under load on a real stack: one healthy, three that come back by themselves."""
