"""Everyday advice and explanations: what people ask about, and tips and reasons that hold."""

from __future__ import annotations

from typing import NamedTuple

from offmap.suites.procedural.frames import bank


class Topic(NamedTuple):
    """Something that people want help with, as in "help me with ...", and tips as imperatives."""

    topic: str
    tips: tuple[str, ...]


TOPICS = (
    Topic("sleeping better", bank("""
go to bed at the same hour every day
keep the bedroom cool and dark
leave the phone in another room
drink your last coffee before two in the afternoon
if you lie awake long, get up and read something dull
""")),
    Topic("my first garden bed", bank("""
start small, with herbs and lettuce
put the plants where they get six hours of sun
water early in the morning
cover the soil with straw so that it stays moist
write down what you sowed and when
""")),
    Topic("a job interview", bank("""
read up on the firm the evening before
prepare two stories about problems that you solved
bring questions of your own
say so when you don't know something
leave home early enough for one missed train
""")),
    Topic("learning a language", bank("""
practise a little every day rather than long on Sundays
listen to songs and follow the words
find somebody to talk to and accept mistakes
learn whole sentences instead of single words
""")),
    Topic("a leaking tap", bank("""
turn the water off under the sink first
put a towel in the basin so that no screw gets lost
change the washer, it is nearly always the washer
if the thread is worn, call a plumber
""")),
    Topic("moving house", bank("""
pack the books in small boxes
label every box with its room
keep papers, keys and a kettle with you
take photos of the meters on the last day
tell the post office two weeks before
""")),
    Topic("a noisy neighbour", bank("""
talk to them in person, on a quiet day
say what you hear and when, without blaming
suggest hours that suit both of you
if nothing changes, write to the landlord
keep a short diary of the noise
""")),
    Topic("saving a little money", bank("""
write down for a month what you spend
move a fixed sum to another account on pay day
cook twice as much and freeze half
cancel what you have not used since winter
""")),
    Topic("speaking in front of people", bank("""
know your first two sentences by heart
speak slower than feels natural
look at one friendly face at a time
stop after each point and breathe
practise once with the clock running
""")),
    Topic("baking bread", bank("""
give the dough time, the fridge overnight is fine
heat the oven well before it goes in
use a knife to cut the top, then bake at once
let it cool before you slice it
""")),
    Topic("a long train ride with children", bank("""
take the seats near the door
bring more snacks than seems reasonable
hide one new book until the second hour
let them count bridges or cows
""")),
    Topic("an old bicycle", bank("""
wash it first, then look for cracks
oil the chain and wipe off what drips
pump the tyres until your thumb hardly dents them
test both brakes before the first ride
""")),
    Topic("writing a speech for a wedding", bank("""
tell one story that only you can tell
keep it under five minutes
leave old loves out of it
end with a toast, so people know when to clap
""")),
    Topic("studying for an exam", bank("""
do old papers under the clock
explain it aloud to somebody who knows nothing
stop at ten and sleep
start with the part that scares you most
""")),
)  # fmt: skip
ASK = bank("""
[Any tips for|Can you give me advice on|I need help with|How do I go about] {topic}?
[Hi,|Hey!|Hello,] I'm {who}. [I've been struggling with|I don't know where to start with|My sister says you know \
about] {topic}.
{topic}. [Go.|Ideas?|Short please.]
We just moved to {town}, everything is new, and on top of it there is {topic}. [What would you do?|Where do I \
begin?] [I have \
about a week.|I'm no expert at all.|Please don't make it complicated.|]
My friend {who} [laughs at me|worries] because of {topic}. [Teach me.|Tell me how to do it properly.|What works?]
""")
TOLD = bank("""
{tips}
[Sure!|Gladly.|Of course.|Happy to help.] {tips} [Good luck!|You'll be fine.|Let me know how it goes.|]
[A few things that help|What usually works|Here is how I would do it|First things first]: {tips}
[It's easier than it looks.|Many people ask that.|Good that you ask.] {tips} [The first one matters most.|Start \
with one of \
them, not with all.|Take your time.]
With {topic}, [patience is half of it|small steps are best]. {tips}
""")
MORE = bank("""
[Anything else?|What else?|One more?|Is there more?]
[Great, thanks.|That helps.|Ok nice.] [And if that doesn't work?|One more idea?]
""")
ONE_MORE = bank("""
{tip}.
[Yes:|One more:|Something people forget:] {tip}. [That's about all.|]
You could also try this: {tip}. [It costs nothing.|It helped many people.|]
""")

WHY: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("why [is the sky|does the sky look] blue", bank("""
Air scatters blue light more than red, so blue reaches your eyes from every side of the sky.
Sunlight holds all colours. [The short waves|The blue part] bounces off the air far more than the red part does, \
and that \
scattered light is what you see when you look up. [At sunset the way is longer, and red is left.|]
""")),
    ("[why does|what makes] bread rise", bank("""
Yeast eats sugar in the dough and gives off gas. The gas [is trapped by|makes bubbles in] the gluten, and the dough \
grows.
[Because of yeast.|Tiny bubbles.] The yeast makes carbon dioxide and the dough holds it[ like a balloon|].
""")),
    ("[what causes|why are there] tides", bank("""
Mostly the moon: its pull is stronger on the near side of the Earth than on the far side, so the sea bulges on \
both. As the \
Earth turns, [a coast passes|you pass] through the bulges about twice a day.
The moon, and to a smaller degree the sun, pull on the sea. [When both line up, the tides are largest.|]
""")),
    ("how does a compass [work|know where north is]", bank("""
The needle is a small magnet, and the Earth is a large weak one. [The needle turns until it lies along the \
field.|So the needle \
lines up with the field, roughly north and south.]
""")),
    ("why do leaves [turn red|change colour] in autumn", bank("""
The tree takes back the green chlorophyll before winter. [What is left|The yellow that was hidden all summer] then \
shows, and \
some trees make red pigment as well.
""")),
    ("why does ice float", bank("""
Water grows by about a tenth when it freezes. The same weight then takes more room, so ice is lighter than the \
water around it.
Ice is less dense than water, [since|because] its molecules sit in an open pattern. That's also why lakes freeze \
from the top.
""")),
    ("why do we see lightning before thunder", bank("""
Light arrives almost at once; sound needs about three seconds for a kilometre. [So count: three seconds, one \
kilometre.|]
""")),
    ("what is the difference between weather and climate", bank("""
Weather is what happens today. Climate is what you can expect, averaged over [thirty years or so|decades].
[One day or one summer is weather.|Weather is your mood, climate your character.] Only long averages tell about \
climate.
""")),
    ("why do onions make [you|people] cry", bank("""
Cutting breaks the cells, and a gas forms that stings the eyes. Tears wash it out. [A sharp knife and a cold onion \
help.|]
""")),
    ("how do bees make honey", bank("""
They carry nectar home, pass it from bee to bee, and fan it with their wings until most of the water is gone. [Then \
the cell \
gets a lid of wax.|What stays is thick and keeps for years.]
""")),
)  # fmt: skip
WHY_ASKED = bank("""
[Tell me,|Simple question:|My son {who} wants to know:|I've always wondered:] {question}?
{question}?
[Explain it like I'm ten:|In two sentences:|For a school talk:] {question}?
""")
WHY_TOLD = bank("""
{answer}
[Good question!|Nice one.|In short:|Here's the simple version.] {answer}
{answer} [Does that help?|Ask on if you like.|There's a nice experiment for it, should you want one.]
""")

BANKS: tuple[tuple[str, ...], ...] = (
    ASK, TOLD, MORE, ONE_MORE, WHY_ASKED, WHY_TOLD, *(topic.tips for topic in TOPICS), *(told for _, told in WHY),
)  # fmt: skip
