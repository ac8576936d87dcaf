"""What is said in helpful conversations about made-up worlds."""

from __future__ import annotations

from offmap.suites.procedural.frames import bank

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
TASKS = (
    "the bank", "the bakery", "laundry", "a call with the landlord", "piano practice", "weeding", "lunch with a friend",
    "the post office", "reading", "a haircut", "cleaning the oven", "the gym", "homework", "paying bills",
    "a walk by the river",
)  # fmt: skip

NOTES = bank("""
[Here are|These are] my notes on {name}: {notes}
I'm writing a [short guide|leaflet|quiz] about {name}. [What I have so far:|My notes:|Facts:] {notes}
[Read this.|Please read the following.|Have a look at this text.]¶¶{notes}¶¶
{notes} That's what the [sign|brochure|old map|teacher] says.
""")
FACTS = {
    "founded": bank("""
{name} was [founded|first settled|given its charter] in {founded}.
[The town dates from|It goes back to] {founded}.
"""),
    "population": bank("""
[About|Roughly|Some] {population} people live [there|in {name}].
The population [of {name} |]is {population}.
"""),
    "river": bank("""
[It lies on|It sits on|{name} was built beside] the {river}.
The river [that runs through it|through {name}|there] is the {river}.
"""),
    "height": bank("""
[It|The market square|The town] is {height} m above sea level.
[Height|Elevation]: {height} m.
"""),
    "mayor": bank("""
The mayor is {mayor}.
{mayor} [is mayor|has been elected mayor|is the mayor this year].
"""),
}
QUESTIONS = {
    "founded": bank("""
[When was it founded?|How old is {name}?|In which year did it begin?|founding year?]
"""),
    "population": bank("""
[How many people live there?|What's the population?|How big is {name}?|And the population?]
"""),
    "river": bank("""
[Which river is it on?|What is the river called?|Name of the river?|Is there a river?]
"""),
    "height": bank("""
[How high is it?|How far above the sea is {name}?|What's the elevation?]
"""),
    "mayor": bank("""
[Who is the mayor?|Who runs the town?|And who's the mayor of {name}?]
"""),
}
FOUND = bank("""
{fact}
[According to your notes|Your notes say|As you wrote]: {fact}
[It's in your notes.|That one is easy.|Yes.|Good question.] {fact} [Anything else?|Shall I put that in a sentence \
for you?|]
""")
NOT_FOUND = bank("""
[Your notes don't say.|That isn't in the notes.|I can't find that in what you gave me.] [Do you have another \
source?|I'd \
rather not guess.|If you tell me, I'll add it.]
I don't know: [the text says nothing about it|none of your notes covers that]. [The town hall could tell you.|]
""")

COMPARE = {
    "age": bank("""
{a} is {x} and {b} is {y}. [Who is older, and by how much?|Which of them is older?|How many years apart are they?]
[My cousin|My neighbour|My friend] {a} turned {x} [this week|yesterday], {b} is {y} already. [What's the \
difference?|Who's \
the older one?]
"""),
    "height": bank("""
{a} climbed {x} metres [today|on Sunday], {b} {y}. [Who climbed more?|By how much do they differ?]
Hike log: {a} {x} m, {b} {y} m. [Winner?|Who gets the prize and by what margin?]
"""),
    "price": bank("""
{a} offers the [boat|piano|old van] for {x}, {b} wants {y}. [Which is dearer?|How much more is the higher one?]
Two quotes for the [roof|kitchen|fence]: {a} says {x}, {b} says {y}. [Difference?|How far apart are they?]
"""),
}
COMPARED = {
    "age": bank("""
{more} is older[ than {less}|], by {gap} years: {sum}.
{sum}, so {more} is {gap} years [older|ahead]. [Happy birthday to both!|]
"""),
    "height": bank("""
{more} [wins|climbed more|went higher]: {sum}, so {gap} metres more than {less}.
[By|A margin of] {gap} metres ({sum}) in favour of {more}. [Well done to both.|]
"""),
    "price": bank("""
{more} is dearer by {gap}: {sum}. [Price isn't everything, so check what is included.|]
{sum}. {less} is cheaper by {gap}. [Ask both what happens if the work takes longer.|]
"""),
}

TOTAL = bank("""
[What do|How much do|How much would] {order} cost?
I [want|need] to buy {order}. [What's the total?|What will that come to?|total?]
[Hey,|Quick one:|Please help me with a bill:] {order}. [How much altogether?|Sum, please.]
[Our club|Our school|The office] ordered {order}, and [the bill got wet|I lost the receipt]. [Can you work it out \
again?|]
""")
TOTALLED = bank("""
{sum}. [That makes|So the total is|Altogether:] {total}.
The total is {total}. [Here is how|The sum|Worked out]: {sum}.
[Sure!|Let me see.|Gladly.] [Step by step|One at a time]: {sum}. [So you pay {total}.|It comes to {total}.]
{total}.¶¶{sum}
""")
PAY = bank("""
[I have|I gave them|I'll pay with] {paid}. [How much do I get back?|What's the change?]
And [if I hand over|out of] {paid}, what's left?
""")
CHANGE = bank("""
{sum}, so you get {change} back.
{change}. [({sum})|That's {sum}.]
[You should have {change} left|The change is {change}], because {sum}.
""")
SPLIT = bank("""
[Dinner|The taxi|The boat trip|The hut] in {town} cost {total} and there were {n} of us. [What does each pay?|Split \
it, please.]
We are {n} friends and [owe|have to share] {total}[ for a weekend in {town}|]. [How much each?|What's a fair share?]
""")
SPLIT_DONE = bank("""
{sum}: {each} each.
Everyone pays {each}, [since|because] {sum}. [If someone had less, you could of course adjust it.|]
[A fair share is|Each of you owes] {each}. [The sum:|Check:] {sum}.
""")
DISTANCE = bank("""
[I walk|I cycle|We row] {v} km a day for {n} days, [starting in|through|around] {town}. [How far is that?|Total \
distance?]
[The bus to|The ferry to|My train to] {town} [covers|does] {v} km an hour and takes {n} hours. How far is it?
""")
DISTANCE_DONE = bank("""
{sum}, so {far} km.
[That is|You cover|It comes to] {far} km in all: {sum}. [Enjoy the trip!|Take some water with you.|]
{n} of them make {far} km ({sum}).
""")
DISCOUNT = bank("""
{good} costs {price}, with {percent} % off. [What do I pay?|What's the new price?|How much do I save?]
[The shop|My aunt's shop|The market stall] [takes|knocks] {percent} percent off {good} that was {price}. [So now \
it's?|What is \
it now?]
""")
DISCOUNTED = bank("""
[You pay {now}.|It's {now} now.|{now}.] {sum}.
[The discount is|You save] {off}, so the {good} costs {now}: {sum}.
{sum}. [The price falls from the old one to|New price:] {now}.
""")

SHOPPING = bank("""
I have a budget of {budget} and would like {wanted}. [I can't have it all. What gives me the most things?|How do I \
get as \
many of them as possible?]
Budget of {budget}. Wish list: {wanted}. [As many as possible please.|Pick for me, more is better.]
[We're moving and|My daughter is moving out and|For the new flat] we'd need {wanted}, [but there's|with] a budget \
of {budget}. \
[What would you buy to get the most pieces?|Which would you take to get most of it?]
""")
SHOPPED = bank("""
Take {chosen}: {sum}, and {left} stays in your pocket. [Starting with the cheapest gets you the most pieces.|]
You can get {n}: {chosen}. [The sum is|That is] {sum}, so {left} is left.
[I'd buy|Buy|Go for] {chosen}. [Cheapest first gets you the most.|That fits.] {sum}, leaving {left}.
""")
SCHEDULE = bank("""
[Plan my day.|Help me plan my day, please.|I need a timetable.] I start at {start}: {tasks}, in that order.
{tasks}. [Everything in {town}, no travel.|No breaks.] I begin at {start}. [When am I done?|When do I finish?]
[I keep running late.|I'm hopeless with time.] Tomorrow I have {tasks}. [If I start at {start}|Starting {start}], \
what would the \
day look like?
""")
SCHEDULED = bank("""
{lines}¶¶You are done at {end}.
[Here's a plan|A timetable for you|Your day]:¶¶{lines}¶¶[That ends at|Finished by|You'd be free from] {end}. [A \
short break \
between tasks would do you good.|]
You [finish|are done] at {end}.¶{lines}
""")
ROUTE = bank("""
Roads: {roads}. [Shortest way from|What's the shortest route from|How do I get quickest from] {a} to {b}?
I'm driving from {a} to {b}. [The map says:|Distances:] {roads}. [Which way is shortest?|Best way?]
""")
ROUTED = bank("""
{way}, {far} km: {sum}.
[The shortest way is|Go|Take] {way}. [That is|Length:] {sum} km. [Safe travels!|]
{sum}, so {far} km [via|along] {way}. [Every other way is at least as long.|]
""")
ALPHABET = bank("""
[Put these in alphabetical order|Sort these names|Alphabetise, please]: {names}
[I need a seating list from A to Z.|Class register, A to Z please.] The names are {names}.
""")
PRICES = bank("""
[Sort by price|Order these by price|From cheapest to dearest, please]: {goods}.
[Which is cheapest?|Rank them by price.] {goods}
""")
SORTED = bank("""
{names}
[Here you go|Sorted|In order|Done]: {names}
[Of course.|Sure thing!|Happy to.] {names}
""")

LETTERS = (
    (
        bank("""
[Write|Draft] a [short|polite|friendly] [email|note|message] to {who}, the {trade} in {town}: I can't make it on \
{day}.
[How do I tell|What do I write to] {who} that I'd like to [move our meeting|come another day than {day}]?
Fill-in template for [cancelling|moving] my {day} appointment with {first}, please.
"""),
        bank("""
Dear {first},¶¶[I'm sorry, but|Unfortunately] I can't come on {day}. [Could we find another time?|Would the week \
after suit \
you?]¶¶[Kind regards|Best wishes],¶{me}
[Sure|Of course|Here is a draft]:¶¶"Hello {first}, {day} [no longer works|won't do] for me, I'm afraid. When does \
it suit you? \
[Thanks|Thank you], {me}"¶¶[Change what you like.|Put your own words where the marks are.]
Hi {first}! About our appointment on {day}: {me} [came up|got in the way], so I'd like to [cancel|move it]. Sorry \
for the \
trouble. {me}
"""),
    ),
    (
        bank("""
I want to thank {first} for the help [last {day}|in {town}]. [Something short.|Can you write it? Leave the names \
open.|]
[Thank-you|Thank you] note for {who}, a {trade} who [fixed our porch|found my cat|drove me home], please.
"""),
        bank("""
Dear {me},¶¶[thank you|many thanks] for [your time|everything]. It [helped a lot|meant a lot to me].¶¶Yours, {me}
{first}, [you saved the day|I won't forget that]. Thank you! [{me}|Yours, {me}]
[Here's one|Short and warm]:¶¶"Dear {first}, I [still think of|am so grateful for] your help. If I can [ever|one \
day] return \
it, call me. {me}"
"""),
    ),
)
MARKS = (
    "[your name]", "[name]", "[date]", "____", "...", "[left out]", "[withheld]", "[x]", "***",
    "(cut)", "<gap>", "[blank]",
)  # fmt: skip
NOTE = bank("""
{who}, a {trade} from {town}, [called|came by] about the [bill|roof|dog]. [Write to|Answer to] {mail}.
[Met|Spoke with] {who} ({trade}) in {town}. [Wants a second offer.|Will call again.] {mail}
""")
REDACT = bank("""
[Black out the personal details|Remove names, places and addresses|Make this anonymous] please: {note}
I want to [post this|put this in a report] without personal data. {note}
""")
REDACTED = bank("""
{note}
[Here it is|Done|Anonymous version]: {note}
[Sure.|Of course.] {note} [I took out the name, the place and the address.|The trade is still there; shall I remove \
it too?]
""")
GAMES = (
    (
        bank("""
[I'm making|We're playing|My kids made up] a board game in which you [tame|feed|wake] a {a}. [Write the rule for \
it.|How does \
that turn go?]
[Invent|Make up|Write] instructions for [baking|brewing|repairing] a {a} in a silly game[ set in {town}|].
"""),
        bank("""
First you take the {b}, then you put it under the {a} and wait for {c}. [If it sings, you win.|Then pass the dice on.]
[Easy|Here you go|With pleasure]:¶¶1. Fetch a {b} from the shed.¶2. Mix it with the usual {c}.¶3. [Sing|Knock \
twice|Count to \
nine].¶¶[That's all it takes.|And done!|Careful, it tickles.]
[Whoever|The player who] holds the {b} goes first. [Roll a six|Say the word {c}] and the {a} is yours[; anything \
else and you \
miss a turn|].
"""),
    ),
    (
        bank("""
Three funny names for {who}'s [rabbit|boat|band|sourdough], please.
[We need|I can't think of] a name for [our quiz team|a village pub in {town}|my blue car]. [Ideas?|Make some up.]
"""),
        bank("""
[My three|How about these]: {a}, {b} and {c}. [I like the second best.|The last one sounds fastest.]
{a}! Or {b}[, if you want it shorter|]. [And {c} if all else fails.|]
"""),
    ),
    (
        bank("""
[In my story|In our fairy tale] {who} has to mend the {a} clock of {town}. [How does that end?|What happens next?]
[Tell me a bedtime story|A very short story, please,] about {who} and a {a}.
"""),
        bank("""
{who} opens the box, pulls out the {b} and gives it to the {c}. [Nobody in {town} notices|Everybody in {town} \
cheers]. Then the \
old {a} [starts to tick|wakes up and yawns].
Late at night {who} crept out of the house with a bag and a {b}. [The dog barked.|The moon was full.] Behind the \
shed sat the \
{a}, and it wasn't angry at all: it only wanted some {c}. [They are friends to this day.|The end.]
"""),
    ),
)

BANKS: tuple[tuple[str, ...], ...] = (
    NOTES, *FACTS.values(), *QUESTIONS.values(), FOUND, NOT_FOUND, *COMPARE.values(), *COMPARED.values(), TOTAL,
    TOTALLED, PAY, CHANGE, SPLIT, SPLIT_DONE, DISTANCE, DISTANCE_DONE, DISCOUNT, DISCOUNTED, SHOPPING, SHOPPED,
    SCHEDULE, SCHEDULED, ROUTE, ROUTED, ALPHABET, PRICES, SORTED, NOTE, REDACT, REDACTED,
    *(side for pair in (*LETTERS, *GAMES) for side in pair),
)  # fmt: skip
