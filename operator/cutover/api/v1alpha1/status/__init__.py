"""The parts of a MigrationPlan's status."""
