"""Programs that made what lies in the package. They are not part of it, and nothing of it imports them."""
