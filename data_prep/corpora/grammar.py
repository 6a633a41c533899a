"""The embedded demo corpus: plain English sentences from a seeded grammar, with nothing to download.

A row has four columns:

* ``text``: lower-case tokens with single spaces between, punctuation too ("the cook fried some eggs .").
* ``topic``: what the text is about, such as "cooking".
* ``family``: the id of what it says; rows of one family say the same in other words.
* ``kind``: "statement" or "question_answer".

A statement family ("cooking-00123") is one proposition: who did what, how, where and when. It is worded in
four or five frames (active, passive, cleft ...) with synonyms drawn afresh, and lies wholly in one split.

A question_answer text is "<question> ? <answer> ."; its family ("fact-0042") is one fact of a fixed table.
Facts recur over the splits by design, for a question can be answered only if its fact was seen. The questions
of valid and test are worded as no question of train is.

In the tables below ``|`` stands between meanings and ``/`` between synonyms. A verb is its base, past and
participle, the participle left out where it equals the past.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

Row = dict[str, str]

FAMILIES_OF_A_TOPIC = {"train": 345, "valid": 36, "test": 36}

# Often nothing or only one of the three, which keeps a sentence near ten tokens.
ADJUNCTS = ("", "", "", "manner", "place", "place", "time", "time", "place time", "manner time")
MANNERS = "carefully/with care | quickly/in a hurry | slowly/without haste | quietly/in silence"
ANY_TIME = "at dawn/at sunrise | at noon/at midday | before lunch"
TIMES = {
    "past": f"{ANY_TIME} | yesterday | last friday | last spring | this morning/earlier today"
    " | last week/a week ago | last month/a month ago | last year/a year ago",
    "future": f"{ANY_TIME} | tomorrow | next friday | next spring | soon/before long"
    " | next week/in a week | next month/in a month | next year/in a year",
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
    """Facts "y: x, x" of one sort, the questions that ask for the y of an x, the answers that give it."""

    topic: str
    questions: str
    answers: str
    facts: str


@dataclass(frozen=True)
class Proposition:
    """What a statement family says. Each part is the tuple of its synonyms, empty where nothing is said."""

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
            "bake baked": "some bread | a cake | some cookies/some biscuits | a pie/a tart | a pizza",
            "make made/prepare prepared": "a soup/a broth | a salad | some pancakes | some sandwiches",
            "slice sliced/cut cut": "some carrots | a lemon | some tomatoes | some cheese | an onion",
            "wash washed/clean cleaned": "a pan/a skillet | some plates/some dishes | an oven/a stove",
            "serve served/offer offered": "some coffee | some tea | a dessert/a pudding | an omelette",
        },
    ),
    Topic(
        "weather",
        "a forecaster | a sailor/a seaman | a pilot | a farmer | a scientist/a researcher | an engineer",
        "on the coast/by the sea | in the harbor/in the port | on the island | near the airport",
        {
            "predict predicted/forecast forecast": "a storm/a gale | some rain | some snow | some fog",
            "watch watched/observe observed": "a rainbow | some clouds | an eclipse",
            "describe described": "a heat wave | a flood | a drought/a dry spell | a cold spell",
            "report reported/announce announced": "a blizzard/a snowstorm | a thunderstorm | a hurricane",
            "photograph photographed": "a tornado | a sunset | a storm/a gale | some dark clouds",
        },
    ),
    Topic(
        "sport",
        "a player | a goalkeeper/a goalie | a coach/a trainer | a runner | a captain | a boy/a lad",
        "in the stadium/in the arena | on the field/on the pitch | at the club | in the park | on the beach",
        {
            "win won": "a race | a medal | a trophy/a cup | a match/a game | a tournament/a contest",
            "throw threw thrown/toss tossed": "a ball | a javelin/a spear | a frisbee | a discus",
            "practice practiced/rehearse rehearsed": "a serve | a jump | a tackle | a pass",
            "lift lifted/raise raised": "some weights | a flag/a banner | a barbell | a chair",
            "beat beat beaten/defeat defeated": "a rival/an opponent | a wrestler | a golfer | an amateur",
        },
        manners="easily/with ease | proudly/with pride | calmly/without a fuss | skillfully/with great skill",
    ),
    Topic(
        "travel",
        "a tourist/a traveler | a guide | a pilgrim | a hiker/a backpacker | a photographer",
        "in italy | in france | in egypt | in japan | near the border | on the island",
        {
            "visit visited/explore explored": "a castle/a fortress | a museum | some ruins | a temple",
            "cross crossed": "a desert | a bridge | a river | a canyon/a gorge",
            "climb climbed": "a mountain/a peak | a tower | a volcano | some steps/some stairs",
            "carry carried": "a suitcase/a case | some bags/some luggage | an umbrella",
            "buy bought/purchase purchased": "a map | a ticket | some souvenirs/some gifts",
        },
    ),
    Topic(
        "music",
        "a musician | a singer/a vocalist | a pianist | a conductor | a violinist/a fiddler | a drummer",
        "on the stage | in the concert hall/in the auditorium | in the studio | at the festival",
        {
            "play played/perform performed": "a melody/a tune | a waltz | a sonata | a march | a symphony",
            "sing sang sung": "a song | an anthem | a ballad | a lullaby | an aria",
            "write wrote written/compose composed": "an opera | a hymn | a musical | a duet",
            "tune tuned": "a violin/a fiddle | a guitar | a harp | a cello",
            "repair repaired/fix fixed": "a flute | a trumpet | an accordion | a drum | an organ",
            "lead led/conduct conducted": "an orchestra | a choir | a band | a chorus",
        },
        manners="carefully/with care | proudly/with pride | skillfully/with great skill",
    ),
    Topic(
        "school",
        "a teacher/an instructor | a pupil | a girl | a boy/a lad | a student | a professor | a librarian",
        "in the classroom | in the library | at the university/at the college | in the laboratory/in the lab",
        {
            "read read": "a book | a novel | a poem | a chapter | an essay",
            "solve solved": "a problem | a puzzle/a riddle | an equation | some sums",
            "draw drew drawn/sketch sketched": "a map | a circle | a triangle | a chart | an animal",
            "learn learned/memorize memorized": "some words | a rule | some numbers | a date",
            "correct corrected/mark marked": "a test/an exam | some homework | some mistakes/some errors",
            "borrow borrowed": "a pencil | a ruler | an eraser/a rubber | a dictionary | a pen",
        },
    ),
    Topic(
        "health",
        "a doctor/a physician | a nurse | a surgeon | a paramedic | a specialist/an expert",
        "in the hospital/in the clinic | in the ward | in the emergency room | in the ambulance",
        {
            "examine examined/check checked": "a sore throat | a swollen knee | an ear | a patient",
            "treat treated": "a burn | a cough | an infection | a fever | a rash",
            "bandage bandaged/wrap wrapped": "a wound/a cut | an arm | an ankle | a finger | a broken leg",
            "prescribe prescribed": "some pills/some tablets | an ointment/a cream | some vitamins | a diet",
            "comfort comforted/calm calmed": "a child/a kid | an old man | a worried mother/a worried mom",
        },
    ),
    Topic(
        "garden",
        "a gardener | a farmer | a neighbor | a girl | a grandfather/a grandpa | a florist",
        "in the garden/in the yard | near the greenhouse | behind the house | near the pond",
        {
            "plant planted": "some tulips | a rosebush | an apple tree | some onions | some bulbs",
            "water watered": "some roses | a lawn | some seedlings/some young plants | some ferns",
            "pick picked/gather gathered": "some cherries | some berries | some flowers/some blossoms",
            "dig dug": "a hole/a pit | a ditch/a trench | a well | a vegetable bed",
            "trim trimmed/prune pruned": "a hedge | a bush/a shrub | a pear tree | some vines",
            "build built/construct constructed": "a shed/a hut | a bench | a birdhouse | a wall",
        },
    ),
    Topic(
        "work",
        "a manager/a boss | a clerk | a secretary/an assistant | an engineer | a lawyer/an attorney",
        "in the office | at the headquarters/at the head office | in the factory/in the plant | in the bank",
        {
            "sign signed": "a contract/an agreement | a check | an order | a form",
            "send sent/mail mailed": "a letter | an invoice/a bill | a parcel/a package | a brochure",
            "hire hired/employ employed": "a worker | an apprentice | a designer | a cleaner",
            "repair repaired/fix fixed": "a printer | a machine | a telephone/a phone | an elevator",
            "count counted": "the money/the cash | some boxes | the votes | some coins",
            "review reviewed/check checked": "a budget | some figures/some numbers | some files",
        },
    ),
    Topic(
        "animals",
        "a fox | an eagle | a cat | an owl | a snake/a serpent | a wolf",
        "in the forest/in the woods | near the river/by the stream | on the hill | in the tall grass",
        {
            "chase chased/pursue pursued": "a rabbit/a hare | a mouse | a squirrel | a duck",
            "catch caught/seize seized": "a frog | a rat | a lizard | a small bird",
            "eat ate eaten/devour devoured": "some eggs | a fish | an insect | a worm",
            "frighten frightened/scare scared": "some hens/some chickens | a goat | a lamb | some sheep",
            "attack attacked": "some geese | a turtle | a mole | some mice",
        },
        manners="silently/without a sound | swiftly/at great speed | suddenly/all of a sudden",
        human=False,
    ),
)

RELATIONS = (
    Relation(
        "animals",
        "where do {x} live | in what place do {x} live | where can you find {x} | where are {x} at home"
        " | where do {x} make a home",
        "{x} live {y} | they live {y} | {y} | you find them {y}",
        "in the cold south: penguins | in the desert: camels, scorpions | in africa: lions, zebras"
        " | in caves: bats | in the sea: whales, sharks, dolphins | in a hive: bees | in asia: tigers"
        " | in the jungle: monkeys, parrots | in ponds: frogs, ducks | under the ground: moles"
        " | in the mountains: eagles | in the forest: wolves, deer, squirrels | on the beach: crabs"
        " | in a stable: horses | in a kennel: dogs | in a web: spiders | in a nest: ants"
        " | in australia: kangaroos, koalas | in china: pandas | in rivers: trout",
    ),
    Relation(
        "animals",
        "what do {x} eat | what do {x} feed on | what food do {x} eat | which food do {x} need"
        " | what do {x} like to eat",
        "{x} eat {y} | they eat {y} | {y} | they feed on {y}",
        "grass: cows, goats, sheep, zebras | bamboo: pandas | carrots: rabbits | fish and mice: cats"
        " | meat: lions, wolves, tigers | fruit: monkeys | nuts: squirrels | nectar: bees, butterflies"
        " | insects: frogs, spiders, bats, swallows | fish: penguins, seals, dolphins | hay: horses"
        " | mice: owls, snakes | leaves: koalas, caterpillars | seeds: hens, parrots | worms: moles"
        " | berries and fish: bears | lettuce: snails",
    ),
    Relation(
        "animals",
        "what is the young of {x} | what is the baby of {x} | what do you call the young of {x}"
        " | what do you call the baby of {x} | which word names the young of {x}"
        " | which word names the baby of {x}",
        "the young of {x} is {y} | it is {y} | {y} | it is called {y}",
        "a kitten: a cat | a puppy: a dog | a calf: a cow, an elephant, a whale | a foal: a horse"
        " | a lamb: a sheep | a kid: a goat | a piglet: a pig | a chick: a hen | a duckling: a duck"
        " | a gosling: a goose | a cub: a bear, a lion, a tiger | a fawn: a deer | a tadpole: a frog"
        " | a cygnet: a swan | an owlet: an owl | a joey: a kangaroo | a pup: a wolf, a seal"
        " | a caterpillar: a butterfly",
    ),
    Relation(
        "animals",
        "how many legs does {x} have | how many legs has {x} got | what number of legs does {x} have"
        " | on how many legs does {x} stand | how many legs support {x}",
        "{x} has {y} legs | it has {y} legs | {y} | it stands on {y} legs",
        "two: a hen, a duck, an owl, a penguin, an eagle, a swan | four: a horse, a dog, a cow, a lizard,"
        " an elephant, a goat, a mouse, a camel, a fox | six: an ant, a bee, a beetle, a butterfly"
        " | eight: a spider, a scorpion | ten: a crab, a lobster",
    ),
    Relation(
        "work",
        "what does {x} do | what is the job of {x} | what does {x} do all day | what does {x} do at work"
        " | how does {x} earn a living",
        "{x} {y} | {x} usually {y} | at work , {x} {y} | {x} {y} for a living",
        "bakes bread: a baker | grows corn: a farmer | sews clothes: a tailor | cuts hair: a barber"
        " | decides cases: a judge | builds furniture: a carpenter | shapes clay: a potter"
        " | sells flowers: a florist | sells meat: a butcher | treats teeth: a dentist"
        " | flies planes: a pilot | writes books: an author | paints pictures: a painter"
        " | digs for coal: a miner | treats sick animals: a vet | repairs cars: a mechanic"
        " | serves meals: a waiter | lends books: a librarian | cares for patients: a nurse"
        " | teaches pupils: a teacher | catches fish: a fisherman | designs houses: an architect"
        " | looks after sheep: a shepherd | sings songs: a singer",
    ),
    Relation(
        "work",
        "where does {x} work | in what place does {x} work | where would you look for {x}"
        " | where can you find {x} | where does {x} spend the day",
        "{x} works {y} | {x} spends the day {y} | {y} | you find {x} {y}",
        "in a bakery: a baker | on a farm: a farmer | in a school: a teacher | in a hospital: a nurse,"
        " a surgeon, a doctor | in a court: a judge, a lawyer | in a restaurant: a waiter"
        " | in a mine: a miner | in a library: a librarian | in a garage: a mechanic"
        " | in a theater: an actor | at a university: a professor | in a kitchen: a cook"
        " | on a ship: a sailor | in a plane: a pilot | in an office: a clerk, a secretary"
        " | in a church: a priest | in a shop: a cashier | in a zoo: a zookeeper | on the beach: a lifeguard"
        " | in a laboratory: a scientist | in a garden: a gardener | in a meadow: a shepherd"
        " | in a stadium: an athlete",
    ),
    Relation(
        "music",
        "what kind of instrument is {x} | what sort of instrument is {x} | among which instruments is {x}"
        " | what is {x} | how would you class {x}",
        "{x} is a {y} instrument | it is a {y} instrument | a {y} instrument | it counts as a {y} instrument",
        "string: a violin, a cello, a guitar, a harp, a viola, a banjo | percussion: a drum, a gong,"
        " a xylophone, a bell | woodwind: a flute, a clarinet, an oboe | brass: a trumpet, a tuba,"
        " a trombone | keyboard: a piano, an organ",
    ),
    Relation(
        "garden",
        "what color are {x} | which color do {x} have | what is the color of {x}"
        " | in what color do you paint {x} | what is the usual color of {x}",
        "{x} are {y} | they are {y} | {y} | most of them are {y}",
        "yellow: bananas, lemons, sunflowers | orange: carrots, pumpkins | green: cucumbers, peas, limes,"
        " leaves | red: tomatoes, cherries, strawberries, poppies | blue: blueberries | purple: violets"
        " | white: daisies, snowdrops | brown: chestnuts, coconuts",
    ),
    Relation(
        "travel",
        "what is the capital of {x} | which city is the capital of {x} | what do you call the capital of {x}"
        " | what is the main city of {x} | can you name the capital of {x}",
        "the capital of {x} is {y} | {y} is the capital of {x} | {y} | it is {y}",
        "paris: france | rome: italy | madrid: spain | cairo: egypt | tokyo: japan | beijing: china"
        " | moscow: russia | london: england | berlin: germany | athens: greece | vienna: austria"
        " | oslo: norway | lima: peru | havana: cuba | nairobi: kenya | ottawa: canada | warsaw: poland",
    ),
    Relation(
        "travel",
        "where is {x} | on which continent is {x} | where in the world is {x}"
        " | on what continent does {x} lie | in which part of the world is {x}",
        "{x} is in {y} | it is in {y} | in {y} | {x} lies in {y}",
        "europe: france, italy, spain, england, germany, greece, austria, norway, poland | africa: egypt,"
        " kenya, morocco | asia: japan, china, india, thailand | south america: peru, brazil"
        " | north america: cuba, canada",
    ),
    Relation(
        "school",
        "what is the opposite of {x} | which word is the opposite of {x}"
        " | what word means the opposite of {x} | what is the reverse of {x}"
        " | can you name the opposite of {x}",
        "the opposite of {x} is {y} | {y} is the opposite of {x} | {y} | it is {y}",
        "cold: hot | hot: cold | small: big | big: small | young: old | old: young | slow: fast | fast: slow"
        " | sad: happy | happy: sad | poor: rich | rich: poor | dry: wet | wet: dry | weak: strong"
        " | strong: weak | late: early | early: late | closed: open | open: closed | dark: light"
        " | light: dark | empty: full | full: empty | short: long | long: short | south: north"
        " | north: south | winter: summer | summer: winter",
    ),
    Relation(
        "cooking",
        "what is {x} made from | what do you make {x} from | from what is {x} made"
        " | what do you need for {x} | what is the basis of {x}",
        "{x} is made from {y} | it is made from {y} | {y} | you make {x} from {y}",
        "milk: cheese, yogurt | flour: bread, pasta | grapes: wine, grape juice | cream: butter"
        " | eggs: an omelette | cocoa: chocolate | corn: popcorn | fruit and sugar: jam | soybeans: tofu"
        " | tomatoes: ketchup | rice and fish: sushi | barley: beer | apples: cider, apple juice"
        " | lemons: lemonade | bread: toast | dried leaves: tea | flour and eggs: a cake",
    ),
    Relation(
        "health",
        "what helps against {x} | what is good for {x} | what should you take for {x} | how do you treat {x}"
        " | what do doctors give for {x}",
        "{y} helps against {x} | {y} is good for {x} | {y} | doctors recommend {y}",
        "honey: a cough | rest: a headache | hot tea: a cold | cold water: a burn | cool cream: a sunburn"
        " | warm soup: a sore throat | plenty of water: a fever | rich cream: dry skin"
        " | plain rice: an upset stomach | quiet music: stress | ice: a swollen ankle"
        " | strong medicine: an infection",
    ),
    Relation(
        "weather",
        "in which season is {x} | what season is {x} in | which season does {x} belong to"
        " | what is the season in {x} | in what part of the year is {x}",
        "{x} is in {y} | it is in {y} | {y} | {x} belongs to {y}",
        "winter: december, january, february | spring: march, april, may | summer: june, july, august"
        " | autumn: september, october, november",
    ),
)


def generate(*, seed: int = 0) -> dict[str, list[Row]]:
    """The corpus as rows (text, topic, family, kind) under "train", "valid" and "test".

    About 20,000, 2,000 and 2,000 rows, a function of `seed` alone. All texts are distinct over all splits.
    """
    rng = random.Random(seed)
    splits: dict[str, list[Row]] = {"train": [], "valid": [], "test": []}
    for split, made in [*statement_rows(rng), *fact_rows(rng)]:
        splits[split].append(made)
    for rows in splits.values():
        rng.shuffle(rows)
    return splits


def statement_rows(rng: random.Random) -> Iterator[tuple[str, Row]]:
    split_of_family = [split for split, size in FAMILIES_OF_A_TOPIC.items() for _ in range(size)]
    for topic in TOPICS:
        propositions = draw_propositions(topic, len(split_of_family), rng)
        for number, (split, proposition) in enumerate(zip(split_of_family, propositions, strict=True)):
            for text in wordings(proposition, rng):
                yield split, row(text, topic.name, f"{topic.name}-{number:05d}", "statement")


def fact_rows(rng: random.Random) -> Iterator[tuple[str, Row]]:
    for number, (relation, x, y) in enumerate(facts()):
        questions, answers = shuffled(relation.questions, rng), shuffled(relation.answers, rng)
        # A whole question is held out, so that no question of valid or test can be looked up in train.
        wordings_of_split = {
            "train": product(questions[1:], answers),
            "valid": product(questions[:1], answers[:2]),
            "test": product(questions[:1], answers[2:]),
        }
        for split, pairs in wordings_of_split.items():
            for question, answer in pairs:
                text = f"{question} ? {answer} .".format(x=x, y=y)
                yield split, row(text, relation.topic, f"fact-{number:04d}", "question_answer")


def facts() -> Iterator[tuple[Relation, str, str]]:
    for relation in RELATIONS:
        for group in meanings(relation.facts):
            y, xs = group.split(": ")
            for x in xs.split(", "):
                yield relation, x, y


def draw_propositions(topic: Topic, number: int, rng: random.Random) -> list[Proposition]:
    drawn: dict[Proposition, None] = {}
    while len(drawn) < number:
        drawn[draw_proposition(topic, rng)] = None
    return list(drawn)


def draw_proposition(topic: Topic, rng: random.Random) -> Proposition:
    def draw(table: str) -> tuple[str, ...]:
        return tuple(rng.choice(meanings(table)).split("/"))

    tense = rng.choice(("past", "past", "past", "future"))
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
    agent, verb, thing = map(rng.choice, (proposition.agent, proposition.verb, proposition.object))
    base, past, participle = (verb.split() + verb.split()[-1:])[:3]
    said = filter(None, (proposition.manner, proposition.place, proposition.time))
    adjuncts = [rng.choice(synonyms) for synonyms in said]
    # A bare adverb ("carefully") stands before the verb, a phrase ("with care") after the object.
    adverb = adjuncts.pop(0) if proposition.manner and " " not in adjuncts[0] else ""
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


def shuffled(table: str, rng: random.Random) -> list[str]:
    parts = meanings(table)
    return rng.sample(parts, len(parts))


def row(text: str, topic: str, family: str, kind: str) -> Row:
    return {"text": text, "topic": topic, "family": family, "kind": kind}
