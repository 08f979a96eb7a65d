"""The parts of a MigrationPlan's spec; its gates are beside it, as gate templates have them, too."""
