"""The words of the shop: what articles are called and which attributes they carry.

Numbers beside the names are demand facts that the simulation needs: price medians in the shop's currency, the
week of the year in which a product type sells best, how readily it is bought again.
"""

from dataclasses import dataclass

PRICE_UNIT = 590.0  # Kaggle's prices are euros divided by 590, so 29.99 reads 0.0508305084745763
PRICE_POINTS = (
    2.99, 3.99, 4.99, 5.99, 6.99, 7.99, 8.99, 9.99, 12.99, 14.99, 17.99, 19.99, 22.99, 24.99, 29.99, 34.99, 39.99,
    49.99, 59.99, 69.99, 79.99, 99.99, 129.0, 149.0, 199.0, 249.0,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ProductType:
    name: str
    number: int
    product_group: str
    garment_group: tuple[int, str]
    price: float
    """median price in the shop's currency"""
    best_week: int
    """week of the year with the highest demand; 0 = sells all year"""
    rebuy: float
    """readiness to buy the very same article again, 0 to 1"""


UPPER, LOWER, FULL = "Garment Upper body", "Garment Lower body", "Garment Full body"
PRODUCT_TYPES = (
    ProductType("T-shirt", 255, UPPER, (1002, "Jersey Basic"), 8.99, 24, 0.6),
    ProductType("Vest top", 253, UPPER, (1002, "Jersey Basic"), 6.99, 26, 0.7),
    ProductType("Top", 254, UPPER, (1005, "Jersey Fancy"), 12.99, 0, 0.4),
    ProductType("Blouse", 258, UPPER, (1010, "Blouses"), 19.99, 18, 0.3),
    ProductType("Shirt", 259, UPPER, (1011, "Shirts"), 24.99, 0, 0.3),
    ProductType("Sweater", 252, UPPER, (1003, "Knitwear"), 24.99, 44, 0.3),
    ProductType("Cardigan", 245, UPPER, (1003, "Knitwear"), 29.99, 42, 0.3),
    ProductType("Hoodie", 308, UPPER, (1005, "Jersey Fancy"), 24.99, 43, 0.4),
    ProductType("Jacket", 262, UPPER, (1007, "Outdoor"), 49.99, 40, 0.1),
    ProductType("Coat", 263, UPPER, (1007, "Outdoor"), 79.99, 43, 0.1),
    ProductType("Blazer", 264, UPPER, (1008, "Dressed"), 39.99, 38, 0.2),
    ProductType("Trousers", 272, LOWER, (1009, "Trousers"), 24.99, 0, 0.6),
    ProductType("Jeans", 273, LOWER, (1016, "Trousers Denim"), 39.99, 38, 0.6),
    ProductType("Leggings/Tights", 274, LOWER, (1002, "Jersey Basic"), 9.99, 42, 0.7),
    ProductType("Shorts", 276, LOWER, (1025, "Shorts"), 14.99, 26, 0.4),
    ProductType("Skirt", 275, LOWER, (1012, "Skirts"), 19.99, 23, 0.3),
    ProductType("Dress", 265, FULL, (1013, "Dresses Ladies"), 24.99, 25, 0.2),
    ProductType("Jumpsuit/Playsuit", 267, FULL, (1013, "Dresses Ladies"), 29.99, 25, 0.2),
    ProductType("Bikini top", 298, "Swimwear", (1018, "Swimwear"), 12.99, 25, 0.5),
    ProductType("Swimsuit", 296, "Swimwear", (1018, "Swimwear"), 24.99, 25, 0.3),
    ProductType("Swimwear bottom", 297, "Swimwear", (1018, "Swimwear"), 9.99, 25, 0.5),
    ProductType("Bra", 306, "Underwear", (1017, "Under-, Nightwear"), 17.99, 0, 0.8),
    ProductType("Underwear bottom", 286, "Underwear", (1017, "Under-, Nightwear"), 9.99, 0, 0.9),
    ProductType("Pyjama set", 292, "Nightwear", (1017, "Under-, Nightwear"), 19.99, 48, 0.3),
    ProductType("Socks", 302, "Socks & Tights", (1021, "Socks and Tights"), 4.99, 46, 0.9),
    ProductType("Underwear Tights", 304, "Socks & Tights", (1021, "Socks and Tights"), 7.99, 45, 0.9),
    ProductType("Sneakers", 94, "Shoes", (1020, "Shoes"), 29.99, 16, 0.2),
    ProductType("Boots", 89, "Shoes", (1020, "Shoes"), 49.99, 42, 0.1),
    ProductType("Sandals", 91, "Shoes", (1020, "Shoes"), 19.99, 24, 0.2),
    ProductType("Bag", 66, "Accessories", (1019, "Accessories"), 19.99, 0, 0.1),
    ProductType("Scarf", 80, "Accessories", (1019, "Accessories"), 9.99, 46, 0.1),
    ProductType("Earring", 70, "Accessories", (1019, "Accessories"), 6.99, 0, 0.3),
    ProductType("Hat/beanie", 74, "Accessories", (1019, "Accessories"), 8.99, 47, 0.2),
    ProductType("Sunglasses", 81, "Accessories", (1019, "Accessories"), 9.99, 25, 0.2),
    ProductType("Bodysuit", 256, UPPER, (1006, "Woven/Jersey/Knitted mix Baby"), 9.99, 0, 0.5),
    ProductType("Outdoor overall", 261, FULL, (1007, "Outdoor"), 39.99, 43, 0.1),
)


@dataclass(frozen=True, slots=True)
class Section:
    name: str
    number: int
    index: tuple[str, str]
    index_group: tuple[int, str]
    weight: float
    """share of the assortment, relative"""
    product_types: tuple[str, ...]


_WOMENS = ("Ladieswear", (1, "Ladieswear"))
_WOVEN = ("Blouse", "Dress", "Skirt", "Trousers", "Blazer", "Jumpsuit/Playsuit", "Shirt")
_JERSEY = ("T-shirt", "Vest top", "Top", "Leggings/Tights", "Cardigan")
_OUTER = ("Jacket", "Coat", "Blazer")
_KIDS = ("T-shirt", "Trousers", "Dress", "Sweater", "Hoodie", "Leggings/Tights", "Shorts", "Jacket", "Pyjama set")
_BABY = ("Bodysuit", "Trousers", "Pyjama set", "Sweater", "Dress", "Outdoor overall", "Socks")
_MEN = ("T-shirt", "Shirt", "Trousers", "Sweater", "Hoodie", "Shorts", "Jeans", "Jacket")
_A, _B, _C = ("A", "Ladieswear"), ("B", "Lingeries/Tights"), ("C", "Ladies Accessories")
_D, _F, _S = ("D", "Divided"), ("F", "Menswear"), ("S", "Sport")
_G, _H, _I = ("G", "Baby Sizes 50-98"), ("H", "Children Sizes 92-140"), ("I", "Children Sizes 134-170")
_LADIES, _DIVIDED, _MENSWEAR = (1, "Ladieswear"), (2, "Divided"), (3, "Menswear")
_CHILDREN, _SPORT = (4, "Baby/Children"), (26, "Sport")

# In the order in which a growing shop opens them: the first eight already cover every index group.
SECTIONS = (
    Section("Womens Everyday Collection", 15, _A, _LADIES, 7.3, _WOVEN + _JERSEY + ("Jeans", "Sweater")),
    Section("Divided Collection", 53, _D, _DIVIDED, 7.1, _JERSEY + _WOVEN + ("Hoodie", "Jeans", "Shorts")),
    Section("Womens Lingerie", 61, _B, _LADIES, 5.5, ("Bra", "Underwear bottom", "Pyjama set", "Underwear Tights")),
    Section("Contemporary Smart", 20, _F, _MENSWEAR, 3.5, (*_MEN, "Blazer")),
    Section("Womens Everyday Basics", 16, _A, _LADIES, 4.0, (*_JERSEY, "Trousers", "Sweater")),
    Section("Kids Girl", 77, _H, _CHILDREN, 4.5, (*_KIDS, "Skirt")),
    Section("Ladies Sport", 5, _S, _SPORT, 2.0, ("Top", "Leggings/Tights", "Bra", "Hoodie", "Shorts", "Sneakers")),
    Section("Womens Small accessories", 66, _C, _LADIES, 3.3, ("Bag", "Scarf", "Earring", "Hat/beanie", "Sunglasses")),
    Section("Baby Essentials & Complements", 44, _G, _CHILDREN, 4.9, _BABY),
    Section("Womens Swimwear, beachwear", 60, _B, _LADIES, 2.4, ("Bikini top", "Swimsuit", "Swimwear bottom")),
    Section("Divided Basics", 51, _D, _DIVIDED, 2.4, (*_JERSEY, "Trousers", "Jeans", "Sweater")),
    Section("Young Girl", 79, _I, _CHILDREN, 3.9, (*_KIDS, "Skirt", "Jeans")),
    Section("Womens Casual", 2, _A, _LADIES, 2.7, ("Shirt", "T-shirt", "Trousers", "Sweater", "Cardigan", "Shorts")),
    Section("Womens Tailoring", 11, _A, _LADIES, 2.6, ("Blazer", "Trousers", "Blouse", "Skirt", "Dress")),
    Section("Men Underwear", 26, _F, _MENSWEAR, 1.3, ("Underwear bottom", "Socks", "Pyjama set", "T-shirt")),
    Section("Womens Trend", 14, _A, _LADIES, 2.6, (*_WOVEN, "Top", "Sweater", "Boots")),
    Section("Kids Boy", 76, _H, _CHILDREN, 3.5, (*_KIDS, "Shirt")),
    Section("Divided Projects", 52, _D, _DIVIDED, 2.4, ("Top", "Dress", "Hoodie", "T-shirt", "Skirt", "Jacket")),
    Section("Womens Jackets", 8, _A, _LADIES, 1.5, _OUTER),
    Section("Womens Shoes", 64, _C, _LADIES, 2.0, ("Sneakers", "Boots", "Sandals")),
    Section("Baby Girl", 40, _G, _CHILDREN, 2.2, _BABY),
    Section("Divided Accessories", 50, _D, _DIVIDED, 1.9, ("Earring", "Bag", "Scarf", "Hat/beanie", "Socks")),
    Section("Mens Outerwear", 25, _F, _MENSWEAR, 1.1, ("Jacket", "Coat")),
    Section("Womens Nightwear, Socks & Tigh", 62, _B, _LADIES, 2.2, ("Pyjama set", "Socks", "Underwear Tights")),
    Section("Denim", 57, _A, _LADIES, 1.8, ("Jeans", "Shorts", "Skirt", "Jacket")),
    Section("Young Boy", 72, _I, _CHILDREN, 2.3, (*_KIDS, "Jeans")),
    Section("Contemporary Casual", 21, _F, _MENSWEAR, 2.7, _MEN),
    Section("Divided Selected", 55, _D, _DIVIDED, 1.6, ("Dress", "Top", "Blouse", "Skirt", "Jumpsuit/Playsuit")),
    Section("Womens Plus", 6, _A, _LADIES, 2.3, _WOVEN + _JERSEY),
    Section("Mama", 18, _A, _LADIES, 2.2, ("Dress", "Jeans", "Top", "Trousers", "Leggings/Tights", "Bra")),
    Section("Womens Premium", 19, _A, _LADIES, 1.3, ("Blouse", "Dress", "Sweater", "Coat", "Trousers")),
    Section("Baby Boy", 41, _G, _CHILDREN, 1.7, _BABY),
    Section("Mens Basics", 24, _F, _MENSWEAR, 1.0, ("T-shirt", "Vest top", "Hoodie", "Trousers", "Socks")),
    Section("Kids Outerwear", 47, _H, _CHILDREN, 2.6, ("Jacket", "Outdoor overall", "Hat/beanie", "Boots")),
    Section("Men Sport", 4, _S, _SPORT, 0.8, ("T-shirt", "Shorts", "Trousers", "Hoodie", "Sneakers")),
    Section("Womens Big accessories", 65, _C, _LADIES, 2.1, ("Bag", "Scarf", "Hat/beanie")),
    Section("Divided Denim", 58, _D, _DIVIDED, 0.9, ("Jeans", "Shorts", "Skirt", "Jacket")),
    Section("Mens Denim", 23, _F, _MENSWEAR, 0.8, ("Jeans", "Shorts", "Jacket", "Shirt")),
    Section("Kids Sports", 43, _S, _SPORT, 0.6, ("T-shirt", "Leggings/Tights", "Shorts", "Sneakers")),
    Section("Special Collections", 29, _A, _LADIES, 0.7, ("Dress", "Blouse", "Coat", "Skirt")),
)

AGE_BANDS = (16, 22, 27, 33, 41, 50, 60, 80)
"""first age of each band; the last entry closes the last band"""
AGE_BAND_SHARES = (0.12, 0.25, 0.17, 0.14, 0.14, 0.13, 0.05)
# Rows: age bands; columns: Ladieswear, Divided, Menswear, Baby/Children, Sport. Which part of the shop is home.
HOME_SHARES = (
    (0.40, 0.45, 0.06, 0.01, 0.08),
    (0.53, 0.31, 0.07, 0.02, 0.07),
    (0.60, 0.19, 0.08, 0.06, 0.07),
    (0.53, 0.10, 0.09, 0.21, 0.07),
    (0.49, 0.12, 0.10, 0.24, 0.05),
    (0.64, 0.13, 0.12, 0.06, 0.05),
    (0.74, 0.06, 0.13, 0.04, 0.03),
)


@dataclass(frozen=True, slots=True)
class Colour:
    name: str
    code: int
    value: tuple[int, str]
    master: tuple[int, str]
    weight: float


_DARK, _DUSTY, _LIGHT = (4, "Dark"), (1, "Dusty Light"), (3, "Light")
_MEDIUM_DUSTY, _BRIGHT, _MEDIUM = (2, "Medium Dusty"), (6, "Bright"), (5, "Medium")
COLOURS = (
    Colour("Black", 9, _DARK, (5, "Black"), 22.7),
    Colour("Dark Blue", 73, _DARK, (2, "Blue"), 12.2),
    Colour("White", 10, _LIGHT, (9, "White"), 9.5),
    Colour("Light Pink", 51, _DUSTY, (4, "Pink"), 5.8),
    Colour("Grey", 7, _MEDIUM_DUSTY, (12, "Grey"), 4.5),
    Colour("Light Beige", 12, _DUSTY, (11, "Beige"), 3.4),
    Colour("Blue", 72, _MEDIUM_DUSTY, (2, "Blue"), 3.3),
    Colour("Red", 42, _BRIGHT, (18, "Red"), 3.1),
    Colour("Light Blue", 71, _DUSTY, (2, "Blue"), 3.0),
    Colour("Greenish Khaki", 19, _MEDIUM_DUSTY, (20, "Khaki green"), 2.8),
    Colour("Dark Grey", 8, _DARK, (12, "Grey"), 2.7),
    Colour("Off White", 11, _DUSTY, (9, "White"), 2.7),
    Colour("Beige", 13, _MEDIUM_DUSTY, (11, "Beige"), 2.7),
    Colour("Dark Red", 43, _DARK, (18, "Red"), 2.3),
    Colour("Dark Green", 93, _DARK, (19, "Green"), 2.1),
    Colour("Yellow", 32, _BRIGHT, (8, "Yellow"), 2.0),
    Colour("Orange", 31, _BRIGHT, (3, "Orange"), 1.5),
    Colour("Lilac Purple", 61, _DUSTY, (1, "Lilac Purple"), 1.2),
    Colour("Gold", 5, _MEDIUM, (14, "Metal"), 1.4),
    Colour("Turquoise", 81, _MEDIUM, (7, "Turquoise"), 1.0),
)

GRAPHICAL_APPEARANCES = (
    ("Solid", 1010016, 0.50),
    ("All over pattern", 1010001, 0.19),
    ("Melange", 1010010, 0.07),
    ("Stripe", 1010017, 0.06),
    ("Denim", 1010023, 0.05),
    ("Front print", 1010005, 0.05),
    ("Placement print", 1010014, 0.04),
    ("Check", 1010004, 0.02),
    ("Lace", 1010008, 0.01),
    ("Embroidery", 1010026, 0.01),
)
DEPARTMENT_KINDS = ("Basic", "Fancy", "Premium", "Casual", "Young", "Studio")
NAMES = (
    "Alma", "Astrid", "Bella", "Bianca", "Cleo", "Dagny", "Ebba", "Elin", "Faye", "Frida", "Greta", "Hanna", "Ida",
    "Ines", "Jade", "Juno", "Karin", "Kim", "Lena", "Liv", "Lou", "Maja", "Mila", "Nora", "Olga", "Pia", "Quinn",
    "Rosa", "Runa", "Saga", "Siri", "Thea", "Tuva", "Ulla", "Vera", "Wilma", "Ylva", "Zoe", "Arvid", "Björn", "Conny",
    "Elliot", "Finn", "Harry", "Isak", "Jonte", "Kasper", "Loke", "Milo", "Nils", "Otto", "Pelle", "Rufus", "Sten",
    "Tim", "Viggo",
)  # fmt: skip
CUTS = ("slim", "wide", "rib", "soft", "long", "cropped", "relaxed", "fine", "loose", "fitted", "classic", "oversized")
FABRICS = (
    "soft cotton jersey", "airy woven fabric", "a fine-knit cotton blend", "washed denim", "crinkled viscose",
    "ribbed jersey", "sweatshirt fabric", "a soft wool blend", "linen and cotton", "recycled polyester", "satin",
    "lace",
)  # fmt: skip
DETAILS = (
    "a round neckline", "narrow shoulder straps", "long sleeves and ribbed cuffs", "a concealed zip at one side",
    "an elasticated waist", "a V-neck and buttons down the front", "patch pockets", "a tie belt at the waist",
    "a gently rounded hem", "dropped shoulders", "side pockets and tapered legs", "a frill trim",
)  # fmt: skip
