"""What is recorded, and where: the only folder that imports mlflow."""
