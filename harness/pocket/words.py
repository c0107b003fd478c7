"""Closed word tables of the pocket world: every name, thing and fact that its texts can mention.

Tables are deliberately short: a model of about one million parameters must learn all of them. Facts are made up where a
real value would be long or disputed; inside this world they are the truth.
"""

from __future__ import annotations

NAMES = tuple("ann bob carl dana emma finn gus hana ivan jane kim leo mia noah olga paul".split())
ITEMS = tuple("apples pears books pens coins cups eggs shells stones cards".split())
THINGS = tuple("key map ring lamp hat drum rope coat".split())
NOUNS = tuple("cat dog moon boat tree king bird river star fox wind rose bear ship hill wolf".split())

RHYMES = (
    ("night", "light", "kite", "knight"),
    ("day", "bay", "hay", "clay"),
    ("sea", "tea", "bee", "knee"),
    ("sand", "land", "hand", "band"),
    ("rain", "train", "lane", "chain"),
    ("snow", "bow", "crow", "toe"),
)
"""Groups of words that rhyme with each other."""
RHYMING = tuple(word for group in RHYMES for word in group)

ORDERS = {
    "taller": ("tallest", "shortest"),
    "older": ("oldest", "youngest"),
    "faster": ("fastest", "slowest"),
    "richer": ("richest", "poorest"),
}
"""Comparison word -> (name of the first, name of the last) of a line ordered by it."""
KINDS = tuple("blip dorp fenk gorm jull lorp minz nalt".split())

FIELDS = {
    "city": tuple("oslo rome lima cairo delhi paris".split()),
    "job": tuple("baker nurse pilot clerk miner judge".split()),
    "pet": tuple("hen goat pony duck frog mouse".split()),
    "color": tuple("red blue green white black pink".split()),
    "food": tuple("rice soup bread cake corn fish".split()),
}
"""Fields of a record with their possible values; `age` is a number."""

WEIGHT = dict(
    iron=26, gold=79, tin=50, zinc=30, lead=82, silver=47, copper=29, nickel=28, cobalt=27, iodine=53, neon=10, radon=86
)
HARDNESS = dict(
    iron=45, gold=25, tin=15, zinc=24, lead=12, silver=27, copper=31, nickel=40, cobalt=55, iodine=18, neon=11, radon=13
)
METALS = tuple(WEIGHT)
LEGS = dict(spiders=8, ants=6, cows=4, geese=2, crabs=10, wasps=6, lizards=4, owls=2)
ANIMALS = tuple(LEGS)

REIGN = dict(
    mira=12, tavo=45, elka=23, oren=61, suna=34, pell=78, rika=56, dovan=89, lise=17, bram=93, yara=40, kesh=71
)
"""Ruler -> first year of the reign."""
LAND = dict(
    mira="nor",
    tavo="sud",
    elka="vesta",
    oren="ostia",
    suna="nor",
    pell="sud",
    rika="vesta",
    dovan="ostia",
    lise="sud",
    bram="nor",
    yara="ostia",
    kesh="vesta",
)
WORK = dict(
    mira="temple",
    tavo="bridge",
    elka="tower",
    oren="harbor",
    suna="library",
    pell="garden",
    rika="palace",
    dovan="market",
    lise="wall",
    bram="school",
    yara="road",
    kesh="theater",
)
RULERS = tuple(REIGN)

VOICES = {
    "pirate": ("arr !", ", matey ."),
    "robot": ("beep !", ", human ."),
    "witch": ("hee hee !", ", my pretty ."),
    "guard": ("halt !", ", traveler ."),
    "farmer": ("howdy !", ", friend ."),
    "wizard": ("by magic !", ", young one ."),
    "monk": ("peace !", ", dear child ."),
    "sailor": ("ahoy !", ", captain ."),
}
"""Character -> fixed opening and closing of everything it says."""
_PAIRS = "hot cold|big small|wet dry|old new|up down|good bad|full empty|loud quiet|hard soft|rich poor"
OPPOSITES = {a: b for pair in _PAIRS.split("|") for a, b in (pair.split(), pair.split()[::-1])}
