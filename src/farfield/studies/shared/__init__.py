"""What studies share: workspaces, claims, stories, statistics and drawing."""
