"""E-commerce: at each basket a known customer opens, recommend items; the basket tells what was right."""
