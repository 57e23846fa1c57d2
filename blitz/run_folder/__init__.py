"""What a run leaves on the disk, without MLflow."""
