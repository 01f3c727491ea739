"""Where items and interactions come from: Amazon, the field's file family, a sample."""
