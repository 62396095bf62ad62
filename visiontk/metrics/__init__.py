"""How good masks are against the truth: regions, boundaries, and the protocols that make figures of them. Pure functions on arrays."""
