"""What the commands show: from plans to words and tables, without I/O and without a clock."""
