"""The synthetic city: a ray-traced town with exact poses, depth, masks, exposure and several hours of the day."""
