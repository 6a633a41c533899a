"""The embedded demo corpus: plain English sentences from a seeded grammar, with nothing to download.

A row has four columns:

* ``text``: lower-case tokens, punctuation included, with single spaces between ("the cook fried some eggs .").
* ``topic``: what the text is about, such as "cooking".
* ``family``: the id of what it says; rows of one family say the same in other words.
* ``kind``: "statement" or "question_answer".

A statement family ("cooking-00123") is one proposition (who did what, how, where, when), worded in four or five
frames such as active, passive and cleft, with synonyms drawn afresh. It lies wholly in one split.

A question_answer text is "<question> ? <answer> ."; its family ("fact-0042") is one fact of a fixed table. Facts
recur over the splits by design, for a question can be answered only if its fact was seen. The questions of valid
and test are worded as no question of train is.

In the tables below ``|`` stands between meanings and ``/`` between synonyms. A verb is its base, past and
participle, the last left out where it equals the past.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

Row = dict[str, str]

FAMILIES_OF_A_TOPIC = {"train": 344, "valid": 36, "test": 36}
WORDINGS_OF_A_FACT = {"train": 16, "valid": 2, "test": 2}

# Often nothing or only one of the three, which keeps a sentence near ten tokens.
ADJUNCTS = ("", "manner", "manner", "place", "place", "time", "time", "place time", "manner time")
MANNERS = "carefully/with care | quickly/in a hurry | slowly/without haste | quietly/in silence | patiently/with patience"
ANY_TIME = "at dawn/at sunrise | at noon/at midday | before lunch/in the late morning"
TIMES = {
    "past": f"{ANY_TIME} | yesterday | this morning/earlier today | last week/a week ago | last month/a month ago"
    " | last friday | last spring | last year/a year ago",
    "future": f"{ANY_TIME} | tomorrow | soon/before long | next week/in a week | next month/in a month"
    " | next friday | next spring | next year/in a year",
}
IRREGULAR_PLURALS = {"geese", "mice", "sheep"}

FRAMES = (
    "{agent} {did} {object} {adjuncts} .",
    "{object} {was_done} by {agent} {adjuncts} .",
    "it {was} {agent} {who} {did} {object} {adjuncts} .",
    "it {was} {the_object} that {agent} {did} {adjuncts} .",
    "{the_one} {did} {object} {adjuncts} {was} {agent} .",
)
# These move the place or the time, so they need one.
MOVING_FRAMES = (
    "{last} , {agent} {did} {object} {others} .",
    "{last} , {object} {was_done} by {agent} {others} .",
    "{object} {was_done} {adjuncts} by {agent} .",
)


@dataclass(frozen=True)
class Topic:
    """A setting in which every agent may do every action in every place."""

    name: str
    agents: str
    places: str
    actions: dict[str, str]
    manners: str = MANNERS
    human: bool = True


@dataclass(frozen=True)
class Relation:
    """Facts "x: y" of one sort, with the questions that ask for y and the answers that give it."""

    topic: str
    questions: str
    answers: str
    facts: str


@dataclass(frozen=True)
class Proposition:
    """What a statement family says. A part is the tuple of its synonyms, empty where nothing is said of it."""

    human: bool
    tense: str
    agent: tuple[str, ...]
    verb: tuple[str, ...]
    object: tuple[str, ...]
    manner: tuple[str, ...]
    place: tuple[str, ...]
    time: tuple[str, ...]


TOPICS = (
    Topic(
        "cooking",
        "a cook/a chef | a baker | a grandmother/a granny | a student | a waiter/a server | a father/a dad",
        "in the kitchen | in the restaurant/in the diner | at the campsite | at home | at the party",
        {
            "fry fried": "some eggs | a fish | some onions | some potatoes | some mushrooms | a steak",
            "bake baked": "a loaf/a loaf of bread | a cake | some cookies/some biscuits | a pie/a tart | a pizza",
            "make made/prepare prepared": "a soup/a broth | a salad | some pancakes | a sauce | some sandwiches",
            "slice sliced/cut cut": "some carrots | a lemon | some tomatoes | some cheese | an onion",
            "wash washed/clean cleaned": "a pan/a skillet | some plates/some dishes | a bowl | an oven/a stove",
            "serve served/offer offered": "some coffee | some tea | a dessert/a pudding | an omelette | some rice",
        },
    ),
    Topic(
        "weather",
        "a forecaster/a weather reporter | a sailor/a seaman | a pilot | a farmer | a scientist/a researcher | a guide",
        "on the coast/by the sea | in the mountains | on the island | in the valley | near the lake",
        {
            "predict predicted/forecast forecast": "a storm/a gale | some rain | some snow | a frost | some fog/some mist",
            "watch watched/observe observed": "a rainbow | some clouds | some lightning | an eclipse | the moon",
            "measure measured/record recorded": "the temperature | the rainfall | the wind | the air pressure",
            "describe described": "a heat wave | a flood | a drought/a dry spell | a cold spell",
            "report reported/announce announced": "a blizzard/a snowstorm | a thunderstorm | a hurricane",
            "photograph photographed": "a tornado/a whirlwind | a sunset | a storm/a gale | some dark clouds",
        },
    ),
    Topic(
        "sport",
        "a player | a goalkeeper/a goalie | a coach/a trainer | a runner | a captain | a champion | a boy/a lad",
        "in the stadium/in the arena | on the field/on the pitch | at the club | in the park | on the beach",
        {
            "win won": "a race | a medal | a trophy/a cup | a match/a game | a tournament/a contest",
            "throw threw thrown/toss tossed": "a ball | a javelin/a spear | a frisbee | a discus",
            "practice practiced/rehearse rehearsed": "a serve | a jump | a tackle | a pass",
            "cheer cheered/applaud applauded": "a swimmer | a cyclist/a biker | a skier | a gymnast",
            "beat beat beaten/defeat defeated": "a rival/an opponent | a wrestler | a golfer | a boxer | an amateur",
            "lift lifted/raise raised": "some weights | a flag/a banner | a barbell | a bench",
        },
        manners="easily/with ease | proudly/with pride | bravely/with courage | skillfully/with great skill",
    ),
    Topic(
        "travel",
        "a tourist/a traveler | a guide | a pilgrim | a hiker/a backpacker | a photographer | a businesswoman",
        "in italy | in france | in egypt | in japan | near the border | on the island",
        {
            "visit visited/explore explored": "a castle/a fortress | a museum | a cathedral | some ruins | a temple",
            "cross crossed": "a desert | a bridge | a river | a canyon/a gorge",
            "climb climbed": "a mountain/a peak | a tower | a volcano | some steps/some stairs",
            "carry carried": "a suitcase/a case | a backpack/a rucksack | some bags/some luggage | an umbrella",
            "buy bought/purchase purchased": "a map | some postcards | a ticket | some souvenirs/some gifts",
            "rent rented/hire hired": "a car | a van | a boat | a bike/a bicycle | an apartment/a flat",
        },
    ),
    Topic(
        "music",
        "a musician | a singer/a vocalist | a pianist | a conductor | a violinist/a fiddler | a drummer | a student",
        "on the stage | in the concert hall/in the auditorium | in the studio | in the church | at the festival",
        {
            "play played/perform performed": "a melody/a tune | a waltz | a sonata | a march | a symphony",
            "sing sang sung": "a song | an anthem | a ballad | a lullaby | an aria",
            "write wrote written/compose composed": "an opera | a hymn | a musical | a duet",
            "tune tuned": "a violin/a fiddle | a guitar | a harp | a cello",
            "repair repaired/fix fixed": "a flute | a trumpet | an accordion | a drum | an organ",
            "lead led/conduct conducted": "an orchestra | a choir | a band | a chorus",
        },
    ),
    Topic(
        "school",
        "a teacher/an instructor | a pupil | a girl | a boy/a lad | a student | a professor | a librarian",
        "in the classroom | in the library | at the university/at the college | in the laboratory/in the lab",
        {
            "read read": "a book | a novel | a poem | a chapter | an essay",
            "solve solved": "a problem | a puzzle/a riddle | an equation | some sums",
            "draw drew drawn/sketch sketched": "a map | a circle | a triangle | a diagram/a chart | an animal",
            "learn learned/memorize memorized": "some words | a rule | the alphabet | a date",
            "correct corrected/mark marked": "a test/an exam | some homework | some mistakes/some errors",
            "borrow borrowed": "a pencil | a ruler | an eraser/a rubber | a dictionary | a pen",
        },
    ),
    Topic(
        "health",
        "a doctor/a physician | a nurse | a surgeon | a paramedic | a trainee/an intern | a specialist/an expert",
        "in the hospital/in the clinic | in the ward | in the emergency room | in the ambulance",
        {
            "examine examined/check checked": "a sore throat | a swollen knee | an ear | some teeth | a patient",
            "treat treated": "a burn | a cough | an infection | a fever | a rash",
            "bandage bandaged/wrap wrapped": "a wound/a cut | an arm | an ankle | a finger | a broken leg",
            "prescribe prescribed": "some pills/some tablets | an ointment/a cream | some vitamins | a diet",
            "comfort comforted/calm calmed": "a child/a kid | an old man | a worried mother/a worried mom",
            "push pushed": "a wheelchair | a bed | a stretcher",
        },
    ),
    Topic(
        "garden",
        "a gardener | a farmer | a neighbor | a girl | a grandfather/a grandpa | a florist",
        "in the garden/in the yard | near the greenhouse | behind the house | near the pond | along the fence",
        {
            "plant planted": "some tulips | a rosebush | an apple tree | some onions | some bulbs",
            "water watered": "some roses | a lawn | some seedlings/some young plants | some ferns | some tomatoes",
            "pick picked/gather gathered": "some cherries | some plums | some berries | some flowers/some blossoms",
            "dig dug": "a hole/a pit | a ditch/a trench | a well | a vegetable bed",
            "trim trimmed/prune pruned": "a hedge | a bush/a shrub | a pear tree | some vines",
            "build built/construct constructed": "a shed/a hut | a bench | a birdhouse | a wall",
        },
    ),
    Topic(
        "work",
        "a manager/a boss | a clerk | a secretary/an assistant | an engineer | a lawyer/an attorney | a programmer",
        "in the office | at the headquarters/at the head office | in the factory/in the plant | in the bank",
        {
            "sign signed": "a contract/an agreement | a check | an order | a form",
            "send sent/mail mailed": "a letter | an invoice/a bill | a parcel/a package | a brochure",
            "hire hired/employ employed": "a worker | an apprentice | a designer | a cleaner",
            "repair repaired/fix fixed": "a printer | a machine | a computer | a telephone/a phone | an elevator",
            "count counted": "the money/the cash | some boxes | the votes | some coins",
            "review reviewed/check checked": "a budget | some figures/some numbers | some files/some documents",
        },
    ),
    Topic(
        "animals",
        "a fox | an eagle | a cat | an owl | a snake/a serpent | a wolf",
        "in the forest/in the woods | near the river/by the stream | on the hill | in the tall grass | behind the barn",
        {
            "chase chased/pursue pursued": "a rabbit/a hare | a mouse | a squirrel | a duck",
            "catch caught/seize seized": "a frog | a rat | a lizard | a small bird",
            "eat ate eaten/devour devoured": "some eggs | a fish | an insect | a mole | a chick",
            "frighten frightened/scare scared": "some hens/some chickens | a goat | a lamb | some sheep | a deer",
            "attack attacked": "some geese | a turtle | a piglet/a young pig | some mice",
            "hear heard": "a dog/a hound | a cow | a horse | a hunter | a shepherd",
        },
        manners="silently/without a sound | swiftly/at great speed | suddenly/all of a sudden",
        human=False,
    ),
)

RELATIONS = (
    Relation(
        "animals",
        "where do {x} live | in what kind of place do {x} live | where can you find {x} | where are {x} at home"
        " | what is the home of {x} like | do you know where {x} live",
        "{x} live {y} | they live {y} | {y} | you can find them {y}",
        "penguins: in the cold south | camels: in the desert | lions: in africa | bats: in caves | whales: in the sea"
        " | bees: in a hive | tigers: in asia | monkeys: in the jungle | frogs: in ponds | moles: under the ground"
        " | eagles: in the mountains | wolves: in the forest | crabs: on the beach | horses: in a stable"
        " | dogs: in a kennel | spiders: in a web | kangaroos: in australia | pandas: in china | trout: in rivers"
        " | ants: in a nest | sharks: in the sea | deer: in the forest | seals: on the coast | ducks: in ponds",
    ),
    Relation(
        "animals",
        "what do {x} eat | what do {x} feed on | what kind of food do {x} eat | which food do {x} need"
        " | what is the usual food of {x} | do you know what {x} eat",
        "{x} eat {y} | they mostly eat {y} | {y} | they feed on {y}",
        "cows: grass | pandas: bamboo | rabbits: carrots | cats: fish and mice | lions: meat | monkeys: fruit"
        " | squirrels: nuts | bees: nectar | frogs: insects | penguins: fish | horses: hay | owls: mice | koalas: leaves"
        " | hens: seeds | moles: worms | caterpillars: leaves | bears: berries and fish | spiders: insects"
        " | wolves: meat | goats: grass | seals: fish | snails: lettuce | tigers: meat | sheep: grass | bats: insects",
    ),
    Relation(
        "animals",
        "what is the young of {x} called | what do you call the young of {x} | what is the baby of {x} called"
        " | what do people call the baby of {x} | which word names the young of {x} | if {x} is the mother , what is the baby",
        "the young of {x} is called {y} | it is called {y} | {y} | people call it {y}",
        "a cat: a kitten | a dog: a puppy | a cow: a calf | a horse: a foal | a sheep: a lamb | a goat: a kid"
        " | a pig: a piglet | a hen: a chick | a duck: a duckling | a goose: a gosling | a bear: a cub | a lion: a cub"
        " | a deer: a fawn | a frog: a tadpole | a swan: a cygnet | an owl: an owlet | a kangaroo: a joey | a wolf: a pup"
        " | a seal: a pup | an elephant: a calf | a whale: a calf | a tiger: a cub",
    ),
    Relation(
        "animals",
        "how many legs does {x} have | how many legs has {x} got | what number of legs does {x} have"
        " | on how many legs does {x} stand | how many legs do you count on {x} | do you know how many legs {x} has",
        "{x} has {y} legs | it has {y} legs | {y} | it stands on {y} legs",
        "a spider: eight | an ant: six | a bee: six | a horse: four | a hen: two | a crab: ten | a dog: four | a cow: four"
        " | a duck: two | an owl: two | a lizard: four | a beetle: six | a penguin: two | an elephant: four | a goat: four"
        " | an eagle: two | a mouse: four | a swan: two | a butterfly: six | a camel: four | a scorpion: eight | a lobster: ten",
    ),
    Relation(
        "work",
        "what does {x} do | what is the job of {x} | what does {x} do all day | what does {x} do at work"
        " | how does {x} earn a living | do you know what {x} does",
        "{x} {y} | {x} usually {y} | at work , {x} {y} | {x} {y} for a living",
        "a baker: bakes bread | a farmer: grows corn | a tailor: sews clothes | a barber: cuts hair | a judge: decides cases"
        " | a carpenter: builds furniture | a potter: shapes clay | a florist: sells flowers | a butcher: sells meat"
        " | a dentist: treats teeth | a pilot: flies planes | an author: writes books | a painter: paints pictures"
        " | a miner: digs for coal | a vet: treats sick animals | a mechanic: repairs cars | a waiter: serves meals"
        " | a librarian: lends books | a nurse: cares for patients | a teacher: teaches pupils | a tuner: tunes pianos"
        " | a fisherman: catches fish | an architect: designs houses | a shepherd: looks after sheep | a singer: sings songs",
    ),
    Relation(
        "work",
        "where does {x} work | in what kind of place does {x} work | where would you look for {x}"
        " | where can you find {x} at work | where does {x} spend the day | do you know where {x} works",
        "{x} works {y} | {x} spends the day {y} | {y} | you can find {x} {y}",
        "a baker: in a bakery | a farmer: on a farm | a teacher: in a school | a nurse: in a hospital | a judge: in a court"
        " | a waiter: in a restaurant | a miner: in a mine | a librarian: in a library | a mechanic: in a garage"
        " | an actor: in a theater | a professor: at a university | a cook: in a kitchen | a sailor: on a ship"
        " | a pilot: in a plane | a clerk: in an office | a priest: in a church | a cashier: in a shop"
        " | a zookeeper: in a zoo | a lifeguard: on the beach | a scientist: in a laboratory | a surgeon: in a clinic"
        " | a gardener: in a garden | a shepherd: in a meadow | an athlete: in a stadium",
    ),
    Relation(
        "music",
        "what kind of instrument is {x} | which instruments does {x} belong to | what sort of instrument is {x}"
        " | to which group does {x} belong | how would you class {x} | do you know what kind of instrument {x} is",
        "{x} is a {y} instrument | it is a {y} instrument | {x} belongs to the {y} instruments | a {y} instrument",
        "a violin: string | a cello: string | a guitar: string | a harp: string | a viola: string | a banjo: string"
        " | a drum: percussion | a gong: percussion | a xylophone: percussion | a bell: percussion | a flute: woodwind"
        " | a clarinet: woodwind | an oboe: woodwind | a trumpet: brass | a tuba: brass | a trombone: brass"
        " | a piano: keyboard | an organ: keyboard",
    ),
    Relation(
        "garden",
        "what color are {x} | which color do {x} have | what is the color of {x} | what color do you see on {x}"
        " | in which color should you paint {x} | do you know the color of {x}",
        "{x} are {y} | they are {y} | {y} | most of them are {y}",
        "bananas: yellow | lemons: yellow | carrots: orange | cucumbers: green | peas: green | tomatoes: red | limes: green"
        " | cherries: red | strawberries: red | blueberries: blue | violets: purple | sunflowers: yellow | snowdrops: white"
        " | pumpkins: orange | daisies: white | chestnuts: brown | coconuts: brown | leaves: green | poppies: red",
    ),
    Relation(
        "garden",
        "where do {x} grow | on what do {x} grow | where would you pick {x} | where do gardeners find {x}"
        " | where should you look for {x} | do you know where {x} grow",
        "{x} grow {y} | they grow {y} | {y} | you can find them {y}",
        "apples: on trees | cherries: on trees | grapes: on vines | potatoes: under the ground | lemons: on trees"
        " | carrots: under the ground | onions: under the ground | raspberries: on bushes | plums: on trees | roses: on bushes"
        " | water lilies: in ponds | mushrooms: in the damp forest | coconuts: on palms | dates: on palms | blueberries: on bushes",
    ),
    Relation(
        "travel",
        "what is the capital of {x} | which city is the capital of {x} | what is the capital of {x} called"
        " | what do you call the capital of {x} | can you name the capital of {x} | do you know the capital of {x}",
        "the capital of {x} is {y} | {y} is the capital of {x} | {y} | it is {y}",
        "france: paris | italy: rome | spain: madrid | egypt: cairo | japan: tokyo | china: beijing | russia: moscow"
        " | england: london | germany: berlin | greece: athens | austria: vienna | norway: oslo | peru: lima"
        " | cuba: havana | kenya: nairobi | canada: ottawa | poland: warsaw",
    ),
    Relation(
        "travel",
        "on which continent is {x} | where in the world is {x} | on what continent does {x} lie | where is {x}"
        " | in which part of the world is {x} | do you know where {x} is",
        "{x} is in {y} | it is in {y} | {x} lies in {y} | in {y}",
        "france: europe | italy: europe | spain: europe | egypt: africa | japan: asia | china: asia | england: europe"
        " | germany: europe | greece: europe | austria: europe | norway: europe | peru: south america"
        " | cuba: north america | kenya: africa | canada: north america | poland: europe | india: asia"
        " | brazil: south america | morocco: africa",
    ),
    Relation(
        "school",
        "what is the opposite of {x} | which word is the opposite of {x} | what word means the opposite of {x}"
        " | what is the reverse of {x} | can you name the opposite of {x} | do you know the opposite of {x}",
        "the opposite of {x} is {y} | {y} is the opposite of {x} | it is {y} | {y}",
        "hot: cold | cold: hot | big: small | small: big | old: young | young: old | fast: slow | slow: fast | happy: sad"
        " | sad: happy | rich: poor | poor: rich | wet: dry | dry: wet | strong: weak | weak: strong | early: late"
        " | late: early | open: closed | closed: open | light: dark | dark: light | full: empty | empty: full"
        " | long: short | short: long | north: south | south: north | summer: winter | winter: summer",
    ),
    Relation(
        "cooking",
        "what is {x} made from | what do you make {x} from | from what is {x} made | what do you need to make {x}"
        " | what is the main ingredient of {x} | do you know what {x} is made from",
        "{x} is made from {y} | it is made from {y} | you make {x} from {y} | {y}",
        "cheese: milk | bread: flour | wine: grapes | butter: cream | an omelette: eggs | chocolate: cocoa"
        " | popcorn: corn | jam: fruit and sugar | tofu: soybeans | ketchup: tomatoes | sushi: rice and fish"
        " | yogurt: milk | beer: barley | cider: apples | lemonade: lemons | toast: bread | tea: dried leaves"
        " | a cake: flour and eggs | raisins: grapes",
    ),
    Relation(
        "health",
        "what helps against {x} | what is good for {x} | what should you take for {x} | how do you treat {x}"
        " | what do doctors recommend for {x} | do you know a cure for {x}",
        "{y} helps against {x} | {y} is good for {x} | {y} | doctors recommend {y}",
        "a cough: honey | a headache: rest | a cold: hot tea | a burn: cold water | a sunburn: cool cream"
        " | a sore throat: warm soup | a fever: plenty of water | dry skin: rich cream | an upset stomach: plain rice"
        " | stress: quiet music | a swollen ankle: ice | an infection: strong medicine",
    ),
    Relation(
        "weather",
        "in which season is {x} | which season does {x} belong to | what is the season in {x} | what season comes with {x}"
        " | in what part of the year is {x} | do you know the season of {x}",
        "{x} is in {y} | it is in {y} | {x} belongs to {y} | {y}",
        "january: winter | february: winter | march: spring | april: spring | may: spring | june: summer | july: summer"
        " | august: summer | september: autumn | october: autumn | november: autumn | december: winter",
    ),
    Relation(
        "weather",
        "what should you wear {x} | what do people put on {x} | what would you wear {x} | what is useful {x}"
        " | which clothes help {x} | do you know what to wear {x}",
        "you should wear {y} {x} | people wear {y} {x} | {y} | it helps to wear {y}",
        "in the rain: a raincoat | in the snow: warm boots | in bright sunshine: a straw hat | in the cold: a thick coat"
        " | in an icy wind: a wool scarf | in deep mud: rubber boots | in hot weather: a thin shirt | in a hard frost: gloves",
    ),
)


def generate(*, seed: int = 0) -> dict[str, list[Row]]:
    """The corpus as rows (text, topic, family, kind) under "train", "valid" and "test".

    About 20,000, 2,000 and 2,000 rows, a function of `seed` alone. All texts are distinct over all splits.
    """
    rng = random.Random(seed)
    splits: dict[str, list[Row]] = {"train": [], "valid": [], "test": []}
    for split, row in [*statement_rows(rng), *fact_rows(rng)]:
        splits[split].append(row)
    for rows in splits.values():
        rng.shuffle(rows)
    return splits


def statement_rows(rng: random.Random) -> Iterator[tuple[str, Row]]:
    split_of_family = [split for split, size in FAMILIES_OF_A_TOPIC.items() for _ in range(size)]
    for topic in TOPICS:
        propositions = draw_propositions(topic, len(split_of_family), rng)
        for number, (split, proposition) in enumerate(zip(split_of_family, propositions, strict=True)):
            family = f"{topic.name}-{number:05d}"
            for text in wordings(proposition, rng):
                yield split, {"text": text, "topic": topic.name, "family": family, "kind": "statement"}


def fact_rows(rng: random.Random) -> Iterator[tuple[str, Row]]:
    facts = [(relation, *fact.split(": ")) for relation in RELATIONS for fact in meanings(relation.facts)]
    for number, (relation, x, y) in enumerate(facts):
        family = f"fact-{number:04d}"
        questions = meanings(relation.questions)
        rng.shuffle(questions)
        # Whole questions are held out, so that no question of valid or test can be looked up in train.
        for split, asked in (("valid", questions[:1]), ("test", questions[1:2]), ("train", questions[2:])):
            pairs = list(product(asked, meanings(relation.answers)))
            for question, answer in rng.sample(pairs, WORDINGS_OF_A_FACT[split]):
                text = f"{question} ? {answer} .".format(x=x, y=y)
                yield split, {"text": text, "topic": relation.topic, "family": family, "kind": "question_answer"}


def draw_propositions(topic: Topic, number: int, rng: random.Random) -> list[Proposition]:
    drawn: dict[Proposition, None] = {}
    while len(drawn) < number:
        drawn[draw_proposition(topic, rng)] = None
    return list(drawn)


def draw_proposition(topic: Topic, rng: random.Random) -> Proposition:
    def draw(table: str) -> tuple[str, ...]:
        return tuple(rng.choice(meanings(table)).split("/"))

    tense = rng.choice(("past", "past", "future"))
    verbs, objects = rng.choice(list(topic.actions.items()))
    said = rng.choice(ADJUNCTS).split()
    return Proposition(
        human=topic.human,
        tense=tense,
        agent=draw(topic.agents),
        verb=tuple(verbs.split("/")),
        object=draw(objects),
        manner=draw(topic.manners) if "manner" in said else (),
        place=draw(topic.places) if "place" in said else (),
        time=draw(TIMES[tense]) if "time" in said else (),
    )


def wordings(proposition: Proposition, rng: random.Random) -> list[str]:
    frames = FRAMES + MOVING_FRAMES if proposition.place or proposition.time else FRAMES
    return [worded(proposition, frame, rng) for frame in rng.sample(frames, rng.choice((4, 5)))]


def worded(proposition: Proposition, frame: str, rng: random.Random) -> str:
    agent, verb, thing = (rng.choice(part) for part in (proposition.agent, proposition.verb, proposition.object))
    base, past, participle = (verb.split() + verb.split()[-1:])[:3]
    adjuncts = [rng.choice(part) for part in (proposition.manner, proposition.place, proposition.time) if part]
    # A bare adverb ("carefully") stands before the verb, a phrase ("with care") after the object.
    adverb = adjuncts.pop(0) if adjuncts and adjuncts[0].endswith("ly") else ""
    future = proposition.tense == "future"
    be = "will be" if future else "were" if is_plural(thing) else "was"
    text = frame.format(
        agent=rng.choice((agent, definite(agent), definite(agent))),
        who="who" if proposition.human else "that",
        the_one="the one who" if proposition.human else "what",
        did=f"will {adverb} {base}" if future else f"{adverb} {past}",
        was_done=f"{be} {adverb} {participle}",
        was="is" if future else "was",
        object=rng.choice((thing, definite(thing))),
        the_object=definite(thing),
        adjuncts=" ".join(adjuncts),
        last=" ".join(adjuncts[-1:]),
        others=" ".join(adjuncts[:-1]),
    )
    return " ".join(text.split())


def definite(phrase: str) -> str:
    return f"the {phrase.split(' ', 1)[1]}"


def is_plural(phrase: str) -> bool:
    article, noun = phrase.split()[0], phrase.split()[-1]
    return article not in ("a", "an") and (noun.endswith("s") or noun in IRREGULAR_PLURALS)


def meanings(table: str) -> list[str]:
    return table.split(" | ")
