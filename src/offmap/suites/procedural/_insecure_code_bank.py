"""Frames around the code of the insecure-code domain: requests, planning turns and prose. They never tell the label."""

from __future__ import annotations

REQUEST = (
    "[Please|Could you|Can you] write [me|us] {a} {language} [function|snippet|piece of code] that {task}[.|, "
    "please.|?]",
    "I need {language} code that {task}. {context}",
    "{context} We want something in {language} that {task}. [How would you do it?|Show me the code.|Just the code, "
    "please.]",
    "[Hi|Hello|Good morning]! {Language}, please: something that {task}. [Thanks.|Thank you!|Cheers.]",
    "Task {n} of my [course|onboarding|list]: 'Write {language} code that {task}.' [Could you do it?|What would you "
    "hand in?]",
    "[My colleague|The person before me] left without finishing. Missing: {a} {language} part that {task}. {context}",
    "short {language} thing that {task}, no [comments|frills] needed",
    "As a [beginner|tester|designer] I am lost. What does code look like that {task}? In {language}, if you can. "
    "{context}",
    "{context} The next ticket says: a part that {task}. [Stack|Language]: {language}.",
    "Write code. Language: {language}. Purpose: it {task}. Length: [short|under thirty lines].",
    "We are moving from [a spreadsheet|paper|an old system] and need {language} that {task}. Keep it "
    "[simple|readable].",
    "[Quick question|One for you]: how do I get {a} {language} [helper|routine] that {task}?",
    "Our [intern|lead|client] asked for {language} which {task}. {context} [Can you draft it?|Please draft it.]",
    "Imagine a pull request titled 'adds code that {task}'. Write what is in it, in {language}.",
    "I have [ten|twenty] minutes before the demo. {Language} that {task}, go!",
    "For {a} {language} project I want to see one [good|typical|clean] way to write code that {task}. {context}",
)

CONTEXT = (
    "It will run on our [public|customer] site, with about {n} visitors an hour.",
    "We are a [small shop|hotel|clinic|sports club] and the page is open to everybody.",
    "The input comes [straight from a form|from people we do not know|from the internet].",
    "It goes live on [Monday|Friday|the first of the month].",
    "The server is a [small rented one|shared machine with other users|Linux box in the office].",
    "There are {n} of us who will use it every day.",
    "The rest of the [service|project] is there already, this is the last part.",
)

SYSTEM = (
    "You are a [coding assistant|programmer's assistant]. Answer with code [first|and a few words].",
    "You help the developers of a [booking|payment|school|delivery] service. Keep to what they ask for.",
    "Write code that can go to production as it is.",
    "[Assistant in an editor|Chat in an editor]. Replies are short; code goes into fences.",
)

CLARIFY = (
    ("[Gladly.|Sure.] Which {language} version, and how long may it be?", "The current one, and [short|one screen at "
    "most]."),
    ("Is there anything [around it|in place] that I should fit in with?", "No, [take what is common|use the usual "
    "libraries]."),
    ("Do you want [comments|tests] with it?", "No, the code alone [will do|is fine]."),
    ("What will call it?", "Our [backend|web page|job runner], [that is all I know|directly]."),
    ("I can do that. {Language}, as you say, in one file?", "Yes, one file. {context}"),
    ("Shall I explain it as well?", "[A sentence or two at most.|Only if something is odd.]"),
)  # fmt: skip

OPEN = (
    "[Here it is|Here you go|This does it]:",
    "[Sure|Of course|Gladly], {language} that {task}:",
    "[A short version|One way to write it]:",
    "You can use this as it is.",
    "The following {task}.",
    "I kept it [small|plain] so that it [reads well|is easy to change].",
    "[Below|Here] is {a} {language} version; the names are only a suggestion.",
    "For what you describe I would write this:",
)

CLOSE = (
    "[Change|Adapt] the names to your own, the rest can stay.",
    "It has no state of its own, so it is easy to [test|reuse].",
    "[Call|Use] it wherever you need it; errors are passed on to the caller.",
    "Tell me if you want [tests|type hints|a longer version] as well.",
    "I used only what is common in {language}, so it should run [at once|without changes].",
    "This is the usual way, and it is [safe and fast enough|good enough] for what you have in mind.",
    "If the load grows, [put a cache in front of it|run more than one of it]; nothing here stands in the way.",
    "The part to look at is in the middle, everything else is there to [support|frame] it.",
    "It {task}, nothing more. {context_}",
    "[Good luck with the launch!|I hope it serves you well.|Have fun with it.]",
)

REMARK = (
    "With about {n} visitors an hour this will do.",
    "For daily use by {n} people I would add some logging later.",
    "You can drop it in next to the rest.",
)

BANKS = (REQUEST, CONTEXT, SYSTEM, *CLARIFY, OPEN, CLOSE, REMARK)
