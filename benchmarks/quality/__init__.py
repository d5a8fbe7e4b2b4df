"""The quality of pictures, poses, surfaces and seams, and the worth of each part of the method."""
