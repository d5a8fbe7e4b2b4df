"""Makes nerfbaselines know blocknerf. It finds this module by the entry point `nerfbaselines.specs`.

Or give the path of this file in NERFBASELINES_REGISTER, or to `nerfbaselines install --spec`.
"""

from nerfbaselines import register  # pyright: ignore[reportMissingImports, reportAttributeAccessIssue]

register(
    {
        "id": "blocknerf",
        "method_class": "blocknerf.integrations.nerfbaselines:BlockNeRFMethod",
        "backends_order": ["python"],
        "metadata": {
            "name": "blocknerf",
            "description": "Block-NeRF with hash grids: blocks on the ground, each trained alone, blended into one "
            "picture by distance and visibility, with an appearance code for each image. Runs without a GPU.",
            "paper_title": "Block-NeRF: Scalable Large Scene Neural View Synthesis",
            "paper_authors": [
                "Matthew Tancik",
                "Vincent Casser",
                "Xinchen Yan",
                "Sabeek Pradhan",
                "Ben Mildenhall",
                "Pratul P. Srinivasan",
                "Jonathan T. Barron",
                "Henrik Kretzschmar",
            ],
            "paper_link": "https://arxiv.org/abs/2202.05263",
            "licenses": [{"name": "Apache-2.0"}],
        },
        "implementation_status": {},
    }
)
