"""What lint lacks: faults that a schema accepts and a cluster does not. Each module holds one kind of question."""
