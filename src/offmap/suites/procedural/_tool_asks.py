"""What users say when they want a tool's work done: a slot is an argument of the call that serves them."""

from __future__ import annotations

from offmap.suites.procedural.frames import bank

ASKS: dict[str, tuple[str, ...]] = {
    "create_event": bank("""
        [Put|Enter|Note] {title} in my calendar for {day} at {time}[.|, please.]
        I have {title} on {day}, {time}. [Can you|Could you|Would you] [block the time|save that|write it in]?
        calendar: {title}, {day} {time}
        [Don't let me forget|I must not miss] {title} on {day}! It [starts|begins] at {time}, so make an entry.
    """),
    "list_events": bank("""
        What [is|have I got] [on my calendar|planned] on {day}?
        [Read|Give|Tell] me my [appointments|plans|entries] for {day}[.|, please.]
        {day}: [anything on|what's on|what do I have]?
        Somebody wants to meet me on {day}. [What do I have then|How full is it]?
    """),
    "cancel_event": bank("""
        [Cancel|Drop|Scrap] calendar entry {event_id}[.|, please.|, will you?]
        I can't [make|go to] {event_id}[ any more|]. Take it out of my calendar.
        {event_id} [has fallen through|won't happen], so [remove it|clear it] from the calendar.
    """),
    "check_stock": bank("""
        How many {item}s do we have [left|in stock], and [what do they cost|at what price]?
        [Any|Are there any] {item}s [in|left]? What is the price?
        stock and price of the {item}?
        A customer is asking [about|after] the {item}. [Do we have it|Is it in stock], and for how much?
    """),
    "place_order": bank("""
        [Order|Get me|I'd like to order] {quantity} {item}s[.|, please.|. Thanks.]
        We [need|are short of] {item}s. [Buy|Order] {quantity} of them.
        {quantity} x {item}, order [it|now] please
        [Can|Could] you place an order for {quantity} {item}s? [It's for the new office.|My usual address is fine.|]
    """),
    "track_order": bank("""
        Where is [my order|the parcel] {order_id}?
        {order_id}: [status|any news|when will it come]?
        I've been waiting [for days|all week] for {order_id}. [What's going on|Has it left yet]?
    """),
    "cancel_order": bank("""
        [Cancel|Please stop|Call off] order {order_id}[.| for me.]
        I [changed my mind about|no longer need] order {order_id}. [Can you cancel it?|Please call it off.]
        order {order_id} was a mistake, cancel it [please|and refund me]
    """),
    "find_book": bank("""
        [Do you have|Have you got|Is there a copy of] "{title}"?
        I'm looking for "{title}". [Where is it|Which shelf is it on]?
        "{title}", [on the shelf|is it in]?
    """),
    "reserve_book": bank("""
        [Reserve|Hold|Keep] "{title}" for me[.|, please.]
        I want to read "{title}" [next|this weekend]. [Could you put|Please put] it aside?
        Reservation for "{title}", [please|if that's alright].
    """),
    "send_email": bank("""
        [Email|Write to] {to} [and say|with this message]: {text}
        [Let {to} know|Drop {to} a line]: "{text}"
        Mail for {to}. Text: {text}
        {to} [should|needs to] hear this from me by email: {text}
    """),
    "archive_email": bank("""
        [Archive|File away] mail {email_id}[.|, please.|, I'm through with it.]
        I've answered {email_id}. [Move it to|It can go in] the archive.
        mail {email_id} -> archive
    """),
    "delete_email": bank("""
        [Delete|Bin|Throw away] mail {email_id}[.|, please.]
        Mail {email_id} is [junk|spam|old news]. [Delete it.|Get rid of it.]
        I don't want to see mail {email_id} again. Delete it [for good|now].
    """),
    "get_balance": bank("""
        [What is|What's|Tell me] the balance [of|on] account {account}[.|?| right now?]
        How much [money |]is [in|left in] account {account}?
        Balance for {account}[?|, please.]
        Rent [is coming up|goes out soon]. How much is on account {account}?
    """),
    "transfer": bank("""
        [Pay|Send|Transfer] {amount} to {to}[.|, please.| from my account.]
        I owe {to} {amount}. [Please pay it.|Can you settle that?|Transfer it now.]
        transfer: {amount}, payee {to}
        {to} [fixed my roof|lent me money|sold me a bike], so [send over|pay out] {amount}.
    """),
    "set_temperature": bank("""
        [Set|Put] the {room} to {degrees} degrees[.|, please.]
        The {room} [is too cold|feels wrong]. [Make it|Go for] {degrees} degrees.
        {room} {degrees}°
        We're [having guests|home soon]. I want {degrees} degrees in the {room}[.|!]
    """),
    "unlock_door": bank("""
        [Unlock|Open] the {door}[.|, please.| for me.]
        I'm [standing at|back and at] the {door} with [no key|full hands]. [Unlock it|Let me in]?
        The plumber is here. The {door} has to be [open|unlocked].
    """),
    "search_trains": bank("""
        [When|At what time] does the next train from {origin} to {destination} [leave|go]?
        I [need|want] to get from {origin} to {destination} by train. [What goes next|What's the next one]?
        trains {origin} - {destination}, next one and fare
    """),
    "book_ticket": bank("""
        Book {seats} seats on train {train}[.|, please.| for us.]
        We're {seats} people and want train {train}. [Book it.|Can you get us seats?]
        train {train}, {seats} seats, [book|reserve] them
    """),
    "read_file": bank("""
        What does {name} say?
        [Open|Read|Look into] {name} and [tell me what it says|give me the gist][.|, please.]
        I [forgot|can't remember] what is in {name}. [Remind me.|Can you look?]
    """),
    "share_file": bank("""
        Share {name} with {person}[.|, please.]
        {person} [asked for|needs] {name}. [Share it.|Give them access.]
        [Can you|Could you] let {person} see {name}? [They are waiting.|It's for the audit.|]
    """),
    "delete_file": bank("""
        [Delete|Remove|Erase] {name}[.|, please.]
        {name} is [out of date|a duplicate|no use any more]. [Delete it.|Remove it.]
        I don't need {name} any more, so [get rid of it|please delete it].
    """),
    "get_weather": bank("""
        [What will the weather be like|How's the weather|What weather do they expect] in {town} on {day}?
        [Forecast|Weather] for {town}, {day}[?|, please.]
        I'm [walking|driving|travelling] to {town} on {day}. [Do I need a coat|What weather should I expect]?
    """),
}
"""For each tool, frames of a request that says everything the call needs."""

VAGUE: dict[str, tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "create_event": (
        "time",
        bank("""
            [Put|Enter] {title} in my calendar for {day}[.|, please.]
            I have {title} on {day}. [Make an entry.|Can you save that?]
        """),
        bank("""
            [At what time|When] [on {day} |]does it [start|begin]?
            [Happy to.|Sure.|Gladly.] What time should I [enter|put] for the {title}?
            I still need a time for {title} before I make the entry. [Which is it?|When is it?]
        """),
        bank("""
            {time}
            [At|It starts at] {time}.
        """),
    ),
    "place_order": (
        "quantity",
        bank("""
            [Order|Get me|I need] some {item}s[.|, please.]
            We're [out of|low on] {item}s, so [order more|place an order][.|, would you?]
        """),
        bank("""
            How many {item}s [should I order|do you want|shall it be]?
            [I can do that.|Right away.] Which quantity of {item}s [do you need|should I put in]?
            Before I place the order: how many {item}s?
        """),
        bank("""
            {quantity}
            [Make it|I'd say|Let's take] {quantity}.
        """),
    ),
    "transfer": (
        "amount",
        bank("""
            [Pay|Send money to|Transfer my share to] {to}[.|, please.]
            I [still |]owe {to} money. [Please pay it.|Can you settle that?]
        """),
        bank("""
            How much should [go to {to}|I pay {to}]?
            [Sure.|Of course.] What amount [shall I send|do you owe {to}]?
            I need an amount before I can pay {to}. [What is it?|How much?]
        """),
        bank("""
            {amount}
            [It's|That would be|Make it] {amount}.
        """),
    ),
    "set_temperature": (
        "degrees",
        bank("""
            [The {room} is too cold.|I'm freezing in the {room}.] [Do something.|Can you change that?]
            [Change|Adjust] the heating in the {room}[.|, please.]
        """),
        bank("""
            [To how many degrees|How high] should the {room} go?
            What temperature [would you like|do you want] in the {room}?
            [Sure.|Can do.] Which target should I set for the {room}?
        """),
        bank("""
            {degrees}
            {degrees} [degrees|would be nice|will do].
        """),
    ),
    "book_ticket": (
        "seats",
        bank("""
            [Book|Reserve] train {train} for us[.|, please.]
            We want to [take|go by] train {train}. [Get us tickets.|Can you book it?]
        """),
        bank("""
            How many seats [do you need|shall I book] on {train}?
            [Gladly.|Yes.] For how many people is train {train}?
            I can book {train} once I know the number of seats. [How many of you are there?|How many?]
        """),
        bank("""
            {seats}
            [We're|There are] {seats}[ of us|].
        """),
    ),
    "get_weather": (
        "day",
        bank("""
            [What will the weather be like|How's the weather going to be] in {town}?
            [Forecast|Weather] for {town}[?|, please.]
        """),
        bank("""
            [For which|Which] day [do you want|should I look up] in {town}?
            [Sure.|One question:] which day are you [asking about|in {town}]?
        """),
        bank("""
            {day}
            [On|For] {day}[.|, please.]
        """),
    ),
}
"""Requests that leave one argument out: its name, the request, the question that asks for it, the answer."""
