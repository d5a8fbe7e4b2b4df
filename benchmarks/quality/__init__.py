"""How good pictures, poses, surfaces and seams are, and what each part of the method is worth."""
