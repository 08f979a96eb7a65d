"""Three cutovers under load on a real stack: one healthy, two that come back by themselves."""
