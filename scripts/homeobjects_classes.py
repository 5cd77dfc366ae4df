"""Which models of the furniture libraries belong to which class of ``homeobjects``.

A rule selects models by title, and where a title has two meanings also by category. The few
models whose title says something else than their shape are named one by one. A model that no
rule selects has no class. ``class_of`` refuses a model that two rules select.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

S, KL = "Scopia#", "Kator Legaz#"
CC0, CCBY = "Blend Swap CC-0#", "Blend Swap CC-BY#"


@dataclass(frozen=True)
class ClassRule:
    """One class: models with a matching title and category, less `without`, plus `also`."""

    name: str
    titles: str
    """Regular expression for the whole English title, case ignored."""
    categories: str = ".*"
    """Regular expression for the whole catalogue category."""
    without: frozenset[str] = frozenset()
    also: frozenset[str] = frozenset()

    def selects(self, model_id: str, title: str, category: str) -> bool:
        """Whether the model with this id, title and category is of this class."""
        if model_id in self.also:
            return True
        return (
            model_id not in self.without
            and re.fullmatch(self.titles, title, re.IGNORECASE) is not None
            and re.fullmatch(self.categories, category) is not None
        )


CLASS_RULES: tuple[ClassRule, ...] = (
    ClassRule(
        "armchair",  # upholstered or wide seats for one, with arms
        r"((modern|rattan|winchester) )?armchair",
        without=frozenset({CC0 + "armchair"}),  # a conference chair
        also=frozenset({S + "ext_chair", CC0 + "designChair"}),  # wide garden seat, egg chair
    ),
    ClassRule(
        "bathroom_fixture",
        r"washbasin|small lavatory|(double )?vanity|toilets unit|bidet|urinal|bath"
        r"|(corner|island) bath(tub)?",
        categories="Bathroom",
    ),
    ClassRule(
        "bed",
        r"((baby|bunk|captain's|child|day|hospital|iron|mezzanine) )?bed|crib|futon",
        categories="Bedroom",
    ),
    ClassRule(
        "bottle",  # closed vessels with a neck
        r"((baby|beer|medicine|spray|wine|yogurt) )?bottle|flacon|old jar",
        also=frozenset(
            {S + "com_bath2_soap", S + "vase3", S + "jar"}  # soap bottle, vases with a neck
        ),
    ),
    ClassRule(
        "cabinet",  # closed storage: wardrobes, cupboards, chests of drawers
        r"wardrobe|cupboard|chest|dresser with drawers|bedside table|tv stand|island"
        r"|((drawers|filing|glass door|high|((small )?(lower|upper)( corner)?)) )cabinet",
        categories="Bedroom|Kitchen|Living room|Office",
    ),
    ClassRule(
        "chair",
        r"((cafe|child|children|folding|oak|osaka|plastic|ryokan|teck) )?chair( with cushion)?"
        r"|class seat",
        # Two armchairs, and a folding stool.
        without=frozenset({S + "ext_chair", CC0 + "designChair", CC0 + "foldingChair"}),
        also=frozenset({CC0 + "armchair"}),
    ),
    ClassRule(
        "cup_or_bowl",  # open vessels
        r"((coffee|plastic) )?cup|coffee mug|((beer|cocktail) )?glass|bowl( with .*)?"
        r"|creamer",
        categories="Kitchen",
    ),
    ClassRule(
        "door",
        r"((double|elevator|exterior|garage|glass|screen|shower) )?door( with panes)?",
        categories="Doors and windows|Bathroom",
    ),
    ClassRule(
        "hand_tool",  # held by a handle: cutlery, kitchen and workshop tools
        r"tool|fork|spoon|(kitchen )?knife|hammer|screwdriver|saw|cutting pliers|drill|grinder"
        r"|scissors",
        also=frozenset({S + "pelle", S + "com_bath2_cepillo"}),  # spade, hair brush
    ),
    ClassRule(
        "kitchen_appliance",
        r"(clothes )?washing machine|dryer machine|((large|small|double) )?(fridge|oven|stove)"
        r"|refrigerator|chest freezer|microwave|propane stove|cooker|deep fryer|toaster|mixer"
        r"|blender|coffee (brewer|machine|maker)",
        categories="Kitchen",
        without=frozenset({CC0 + "stove"}),  # a flat hob
    ),
    ClassRule(
        "lamp",
        r"((camping|chandelier|desk|little|outdoor|pendant|street) )?lamp|pedestal vase lamp"
        r"|classic lamppost|(hanging|park|porch|street|wall) light",
        categories="Lights",
    ),
    ClassRule(
        "motor_vehicle",  # with four wheels or more, for the road
        r"(city )?bus|chevrolet|peugeot 308 cc|renault scenic|suv|seat leon|smart car|truck|van"
        r"|concept sedan 0[12]( sport)?|vw new beetle|ford focus",
        categories="Vehicles",
    ),
    ClassRule("person", r"(.* )?(male|female|boy|girl)", categories="Characters"),
    ClassRule(
        "plant",  # in a pot, a vase or a box
        r"((decorative|indoor|little|spider|succulent) )?plant|(flower|plant) box|bamboo"
        r"|bonsai tree|cactus|ficus|flowers|orchids|spathiphyllum|tulips|white lily|yucca",
        categories="Living room|Exterior",
        without=frozenset({S + "bamboo", S + "ficusTree"}),  # grown trees
    ),
    ClassRule(
        "sofa",
        r"((burlap|clear|corner|rattan|winchester) )?sofa( [23] seats)?|(futon )?couch"
        r"|convertible sofa bz",
    ),
    ClassRule(
        "table",
        r"((bar|black|cafe|children|coffee|desk|folding|glass|oak|round|technical"
        r"|wooden( alder| teak)?) )?table( on trestles| with tablecloth)?|(wooden )?desk",
        without=frozenset({KL + "custom-desk", CC0 + "desk"}),  # desks with a top part
    ),
    ClassRule(
        "tree",
        r"acacia|bamboo|(bended )?coconut tree|(blue )?pine( under snow)?|christmas tree"
        r"|copper beech|cypress|ficus|japanese maple|palm tree|peach blossom|poplar"
        r"|sycamore maple",
        without=frozenset({S + "ficus", CCBY + "luckyBamboo"}),  # in pots
    ),
)

CLASS_NAMES: tuple[str, ...] = tuple(rule.name for rule in CLASS_RULES)

# Variants of one model, by id: whatever matches the same expression stays in one part of the
# split, together with what the geometry alone says is a near-duplicate.
SERIES: tuple[str, ...] = (
    S + r"window_\dx\d.*",
    S + r"beige_sofa.*",
    S + r"wooden_office_.*table.*",
    S + r"(double_)?door(_.*)?",
    S + r"garage-door\d?",
    S + r"elevator(-door)?",
    S + r"kitchen_tool\d",
    S + r"(pine|pineSnow|bluePineSnow)",
    S + r"coconutTree.*",
    S + r"convertible-sofa-BZ-.*",
    S + r"rattan(Armchair|Sofa)",
    S + r"mannequin.*",
    S + r"medicoscopia_bottle\d?",
    S + r"com_bath(2_jabon_pijo)?",
    S + r"little_lamp[12]",
    S + r"electric_water_heater.*",
    S + r"(pottery|sugar)",
    S + r"stationnement-.*",
    S + r"billet-.*",
    S + r"iron-railing-\d",
    S + r".*(plug-Type|RJ-45|antenna|switch|dimmer).*",
    KL + r"window-\d\d.*",
    KL + r"concept-sedan-01.*",
    KL + r"concept-sedan-02.*",
    KL + r"mid-century-(bench-)?sofa",
    KL + r"porch-column-\d\d",
    KL + r"hanging-clothes\d",
    KL + r"(12-oz|highball)-glass",
    CC0 + r"(high|drawers|(lower|upper|sink|smallUpper).*)Cabinet",
    CC0 + r"winchester.*",
    CC0 + r"speaker\d",
    CC0 + r"pedestrianRailing\d",
    CC0 + r"(oven|doubleOven)",
    CCBY + r"kitchen(.*Cabinet|Island|Sink)",
    CCBY + r"(fork|spoon|knife)",
    CCBY + r"wall(Double)?Socket",
)


def class_of(model_id: str, title: str, category: str) -> int:
    """Index into `CLASS_NAMES` of the class of a model, or -1.

    Raises:
        ValueError: If two rules select the model.
    """
    found = [i for i, rule in enumerate(CLASS_RULES) if rule.selects(model_id, title, category)]
    if len(found) > 1:
        names = ", ".join(CLASS_NAMES[i] for i in found)
        raise ValueError(f"{model_id} ({title}) is selected by the rules of {names}; narrow one")
    return found[0] if found else -1


def series_of(model_id: str) -> list[int]:
    """Indices into `SERIES` of the variant sets that a model belongs to."""
    return [i for i, pattern in enumerate(SERIES) if re.fullmatch(pattern, model_id)]
