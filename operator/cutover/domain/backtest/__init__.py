"""The backtest: replays of a plan's cutover on recorded traffic."""
