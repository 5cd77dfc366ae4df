"""What exists because published code did it so; nobody else needs to know it."""
