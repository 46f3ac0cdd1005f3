"""What a stage optimises: one file each."""
