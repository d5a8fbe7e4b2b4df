"""A block that is a formula: it can be rendered, and has learned nothing else."""

from blocknerf.core.errors import UserError


class FormulaBlock:
    """Answers all that a city asks of a block but `render`."""

    radius_m, appearance_width = 1.0, 0
    refines_poses, has_visibility = False, False

    def code_for(self, appearance):
        return None

    def render_each(self, rays, codes):
        return [self.render(rays, code) for code in codes]

    def mean_visibility(self, rays):
        return None

    def view_confidence(self, rays, distances_m):
        return None

    def visibility_along(self, rays, distances_m):
        raise UserError("A formula has seen nothing.")

    def pose_motion(self, image_id=None, drive=None, segment=None):
        return None

    def refined_rays(self, rays, image_id=None, drive=None, segment=None):
        return rays

    def colours(self, rays, code):
        return self.render(rays, code).rgb

    def colours_by_code(self, rays):
        return lambda code, chosen: self.colours(rays[chosen], code)

    def composite(self, rays, codes, rng):
        raise UserError("A formula has no samples.")

    def parameters(self):
        return iter(())
