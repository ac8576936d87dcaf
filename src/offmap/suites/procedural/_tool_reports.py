"""What an assistant says when a call has worked, and how it names the work. Slots are arguments and result fields."""

from __future__ import annotations

from offmap.suites.procedural.frames import bank

REPORTS: dict[str, tuple[str, ...]] = {
    "create_event": bank("""
        [Done|All set|Sorted]: the {title} is in your calendar for {day} at {time}.
        The {title} is [down|entered] for {day}, {time}, as [entry|item] {event_id}.
        I've [added|saved] the {title} on {day} at {time}[; the entry is {event_id}|, entry {event_id}].
        Your {day} now has the {title} at {time} ({event_id}).
    """),
    "list_events": bank("""
        On {day} you have: {events}.
        Your {day} [looks like this|has]: {events}.
        {events}. That is [all of|everything on] {day}.
        I [looked|checked]: {day} holds {events}.
    """),
    "cancel_event": bank("""
        Entry {event_id} is [off|gone from] your calendar[, so {day} has room|; it was on {day}].
        [Done.|Right.] I took {event_id} out of {day}.
        Your {event_id} on {day} [is cancelled|has been removed] now.
    """),
    "check_stock": bank("""
        There are {stock} {item}s [left|in stock], at {price} each.
        The {item} costs {price}, and [we have {stock}|{stock} are on the shelf].
        {stock} in stock, {price} apiece, for the {item}.
        Yes: {stock} {item}s, and the price is {price}.
    """),
    "place_order": bank("""
        [Ordered|Done]: {quantity} {item}s, {total} in all. The number is {order}.
        Your order {order} for {quantity} {item}s is [in|placed]; it comes to {total}.
        I've [placed|put in] the order for {quantity} {item}s ({order}, total {total}).
        {quantity} {item}s are on their way to you under {order}, for {total}.
    """),
    "track_order": bank("""
        Order {order_id} is {stage} [and due|and should come] on {arrives}.
        {order_id}: {stage}, arriving {arrives}.
        Your parcel {order_id} is [marked as |]{stage}; expect it [on|by] {arrives}.
    """),
    "cancel_order": bank("""
        Order {order_id} is [cancelled|called off], and {refund} [comes|goes] back to you.
        [Done.|Alright.] I cancelled {order_id}; your refund is {refund}.
        {order_id} won't be sent. You get {refund} back.
    """),
    "find_book": bank("""
        Yes, "{title}" is [on|at] shelf {shelf}, [{copies} to lend|free copies: {copies}].
        "{title}" [stands|is kept] at {shelf}; {copies} [in|free] right now.
        You'll find "{title}" under {shelf}. Copies here: {copies}.
    """),
    "reserve_book": bank("""
        "{title}" is [reserved|put aside] for you under {hold}.
        [Done.|Sure.] I've [reserved|put a hold on] "{title}"; the number is {hold}.
        Your copy of "{title}" [waits|is kept] at the desk, reservation {hold}.
    """),
    "send_email": bank("""
        [Sent|Done]: {to} has [the message|your mail] ({sent}).
        I've [emailed|written to] {to}[ for you|]; it went out as {sent}.
        Your [message|note] to {to} is [out|on its way], number {sent}.
    """),
    "archive_email": bank("""
        Mail {email_id} is in the archive now.
        [Done.|Filed.] I moved {email_id} to your archive.
        {email_id} has [gone to|been put in] the archive[.|, out of your inbox.]
    """),
    "delete_email": bank("""
        Mail {email_id} is deleted.
        [Done.|Gone.] I deleted {email_id} from your inbox.
        {email_id} [has been thrown away|is in the bin for good].
    """),
    "get_balance": bank("""
        The balance [of|on] account {account} is {balance}.
        Account {account} [holds|stands at|shows] {balance}[ right now| at the moment|].
        There is {balance} [in|on] {account}.
    """),
    "transfer": bank("""
        [Paid|Done]: {amount} went to {to}, reference {reference}.
        I've [sent|transferred] {amount} to {to} ({reference}). [You have {balance} left.|That leaves {balance}.]
        {to} [has been paid|gets] {amount}; the reference is {reference}.
        Your transfer of {amount} to {to} [is through|went out] under {reference}.
    """),
    "set_temperature": bank("""
        The {room} is set to {degrees} degrees[.|; it stood at {before}.]
        [Done.|Sure.] I've [put|set] the {room} at {degrees}; it was {before}.
        {degrees} degrees in the {room} it is[.|, from {before} before.]
    """),
    "unlock_door": bank("""
        The {door} is [open|unlocked] now.
        [Done.|There you go.] I've unlocked the {door}[ for you|].
        You can go in: the {door} is [unlocked|no longer locked].
    """),
    "search_trains": bank("""
        Train {train} [leaves|departs from] {origin} at {departs}, to {destination}, for {fare}.
        The next one from {origin} to {destination} is {train} at {departs}; the fare is {fare}.
        {departs}, train {train}, {fare} a seat, {origin} to {destination}.
    """),
    "book_ticket": bank("""
        {seats} seats on {train} are [booked|yours]: coach {coach}, ticket {ticket}.
        [Done.|Booked.] Ticket {ticket} covers {seats} seats on {train}, coach {coach}.
        I've booked {seats} seats on train {train} ([ticket |]{ticket}, coach {coach}).
    """),
    "read_file": bank("""
        {name} says that {content}.
        [In|According to] {name}, {content}.
        I [read|opened] {name}: {content}.
    """),
    "share_file": bank("""
        {person} can [see|open|read] {name} now.
        [Done.|Shared.] I gave {person} access to {name}.
        I've shared {name} with {person}[.|, as you asked.]
    """),
    "delete_file": bank("""
        {name} is [deleted|gone].
        [Done.|Okay.] I deleted {name}[ for good|].
        I've [removed|erased] {name} from your files.
    """),
    "get_weather": bank("""
        {day} in {town} will be {sky}, up to {high} degrees.
        [Expect|It will be] {sky} weather in {town} on {day}, at most {high} degrees.
        {town} on {day}: {sky}, {high} degrees.
    """),
}
"""For each tool, frames that state what a successful call has done or found."""

NONE_LEFT: dict[str, tuple[str, ...]] = {
    "check_stock": bank("""
        [I'm afraid|Sorry,] there are no {item}s left[.|; the price would be {price}.]
        The {item} is [sold out|out of stock], so I can't offer you one. It [costs|is] {price}.
        No {item}s at the moment[.|, unfortunately.]
    """),
    "find_book": bank("""
        [We have|The library has] "{title}" (shelf {shelf}), but [no copy is in|all copies are out].
        [Sorry,|Unfortunately,] "{title}" is not available now; every copy is lent.
    """),
}
"""Truthful reports of a successful look-up that found nothing to give."""

ACTS: dict[str, str] = {
    "create_event": "[enter|save] the {title}",
    "list_events": "[look at|open] your {day}",
    "cancel_event": "[remove|cancel] {event_id}",
    "check_stock": "[check|look up] the {item}",
    "place_order": "[order|buy] the {item}s",
    "track_order": "[trace|look up] {order_id}",
    "cancel_order": "[cancel|stop] {order_id}",
    "find_book": '[find|look up] "{title}"',
    "reserve_book": '[reserve|hold] "{title}"',
    "send_email": "[send|deliver] the mail to {to}",
    "archive_email": "[archive|move] {email_id}",
    "delete_email": "[delete|remove] {email_id}",
    "get_balance": "[see|read] account {account}",
    "transfer": "[pay|send money to] {to}",
    "set_temperature": "[heat|change] the {room}",
    "unlock_door": "[unlock|open] the {door}",
    "search_trains": "[find|look up] a train to {destination}",
    "book_ticket": "[book|get] seats on {train}",
    "read_file": "[open|read] {name}",
    "share_file": "[share|hand on] {name}",
    "delete_file": "[delete|remove] {name}",
    "get_weather": "[see|get] the forecast for {town}",
}
"""The work of each tool as a verb phrase that stands after "to" or "could not"."""

THINGS: dict[str, str] = {
    "create_event": "the {title} on {day}",
    "list_events": "the plan for {day}",
    "cancel_event": "entry {event_id}",
    "check_stock": "the stock of {item}s",
    "place_order": "the order of {quantity} {item}s",
    "track_order": "order {order_id}",
    "cancel_order": "order {order_id}",
    "find_book": '"{title}"',
    "reserve_book": '"{title}"',
    "send_email": "the mail to {to}",
    "archive_email": "mail {email_id}",
    "delete_email": "mail {email_id}",
    "get_balance": "account {account}",
    "transfer": "the payment of {amount} to {to}",
    "set_temperature": "the heating of the {room}",
    "unlock_door": "the {door}",
    "search_trains": "the train from {origin} to {destination}",
    "book_ticket": "the booking on {train}",
    "read_file": "{name}",
    "share_file": "{name}",
    "delete_file": "{name}",
    "get_weather": "the weather in {town} on {day}",
}
"""What each tool's work is about, as a noun phrase."""
