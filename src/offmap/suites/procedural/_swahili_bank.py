"""Frames of everyday Swahili: pairs of a question and its answer, by topic."""

from __future__ import annotations

Pair = tuple[str, str]

GREET: tuple[Pair, ...] = (
    ("Habari za asubuhi, [umeamkaje|u hali gani]?", "Nzuri sana, asante. [Nawe umeamkaje?|Natumaini umelala vizuri.]"),
    (
        "[Hujambo|Hujambo rafiki yangu]! [Naitwa|Jina langu ni] {me}.",
        "Sijambo, {me}. [Nikusaidie nini leo?|Karibu sana.]",
    ),
    (
        "Habari za [mchana|jioni]? Mimi ni {me} kutoka {town}.",
        "Nzuri, {me}. Habari za {town}? [Karibu tuongee.|Karibu.]",
    ),
    ("[Mambo vipi?|Vipi, rafiki?] Naomba msaada kidogo.", "[Poa.|Salama.] Bila shaka, [niambie|niulize] unachohitaji."),
    ("Shikamoo! [Naomba kuuliza swali.|Nina maswali mawili.]", "Marahaba! [Uliza tu, nitajibu.|Karibu, uliza.]"),
    (
        "Salaam! Ninajifunza Kiswahili, naomba tuongee polepole.",
        "Hongera! Tutaongea polepole, [usiwe na wasiwasi|bila haraka].",
    ),
    (
        "Nimefurahi kukuona tena. Habari za [nyumbani|kazi|safari]?",
        "Nzuri tu, asante kwa kuuliza. [Na wewe je?|Za kwako?]",
    ),
    ("Hodi! [Upo?|Kuna mtu?]", "Karibu! Nipo hapa, [tuanze|niambie habari]."),
)

PART: tuple[Pair, ...] = (
    (
        "[Asante sana|Nashukuru sana], umenisaidia.",
        "[Karibu sana|Usijali], nimefurahi kukusaidia. [Siku njema!|Kwaheri!]",
    ),
    ("Haya, kwaheri. [Tutaonana kesho.|Usiku mwema.]", "Kwaheri ya kuonana, {me}. [Salimia nyumbani.|Ulale salama.]"),
    (
        "Sawa, nimeelewa. [Asante|Ahsante] kwa maelezo.",
        "Vizuri. Ukiwa na swali lingine, [uliza wakati wowote|usisite kuuliza].",
    ),
    (
        "[Vizuri sana|Safi sana]! Nitamwambia {name} pia.",
        "Wazo zuri. Msalimie sana {name} na [familia yake|wote nyumbani].",
    ),
    ("Basi nitafanya hivyo [leo|kesho asubuhi].", "Haya, nakutakia kila la heri. [Karibu tena.|Tuonane tena.]"),
    ("Unaongea Kiswahili vizuri!", "Asante! Hata wewe unaongea vizuri, [endelea hivyo hivyo|usiache kujifunza]."),
)

MARKET: tuple[Pair, ...] = (
    ("Kilo moja ya {food} ni shilingi {price}. Kilo {n} ni shilingi ngapi?", "Kilo {n} za {food} ni shilingi {total}."),
    ("Niko sokoni. {Food}: shilingi {price} kwa kilo. Nikinunua kilo {n} nitalipa kiasi gani?",
     "Utalipa shilingi {total}, kwa sababu {n} mara {price} ni {total}."),
    ("Muuzaji anataka shilingi {price} kwa kila kilo ya {food}. Nina shilingi {note}. Nikinunua kilo {n}, nitabaki "
    "na ngapi?",
     "Kilo {n} ni shilingi {total}, kwa hiyo utabaki na shilingi {left}."),
    ("Nataka {food}, kilo {n}. Bei ya kilo ni shilingi {price}. [Nisaidie kupiga hesabu.|Jumla ni ngapi?]",
     "[Sawa|Bila shaka]: {n} mara {price} ni {total}. [Jumla|Bei yote] ni shilingi {total}."),
    ("{Fruit} moja ni shilingi {price}. {Fruits} {many} ni bei gani?",
     "{Fruits} {many} ni shilingi {fruit_total}."),
    ("Nimenunua {fruits} {many}, kila moja kwa shilingi {price}. Nimetumia pesa ngapi?",
     "Umetumia shilingi {fruit_total}. [Ukipata nafasi, omba risiti.|Ni bei ya kawaida sokoni.]"),
    ("Bei ya {food} imepanda kutoka shilingi {price} hadi shilingi {dearer}. Imeongezeka kwa kiasi gani?",
     "Imeongezeka kwa shilingi {rise} kwa kilo. [Labda itashuka baada ya mavuno.|Jaribu pia soko lingine.]"),
    ("Je, [naweza kuomba|niombe] punguzo sokoni?", "Ndiyo, [ni kawaida|hakuna shida]. Sema kwa upole: 'Naomba "
    "unipunguzie bei kidogo.'"),
    ("Mama {name} anauza {fruits} kwa shilingi {price} kila moja. Nikimpa shilingi {fruit_note} kwa {fruits} {many}, "
    "atanirudishia ngapi?",
     "Atakurudishia shilingi {fruit_left}, maana {fruits} {many} ni shilingi {fruit_total}."),
)  # fmt: skip

WAY: tuple[Pair, ...] = (
    ("Samahani, {place} {is_at} wapi?", "Nenda moja kwa moja, kisha pinda [kushoto|kulia] {mark}. Utaona {place} "
    "mbele yako."),
    ("Nataka kwenda {place_to}. [Nipite njia gani?|Ni mbali?]",
     "Si mbali, ni mwendo wa dakika {minutes} kwa miguu. Pita {mark}, halafu uvuke barabara."),
    ("Nimepotea! Niko {mark} na ninatafuta {place}.", "Usijali. Rudi nyuma kidogo, pinda [kulia|kushoto], na utafika "
    "baada ya dakika {minutes}."),
    ("Kutoka hapa hadi {place_to} ni [mita|hatua] ngapi?", "Ni kama [mita|hatua] {n}00 hivi. Fuata barabara kubwa "
    "mpaka {mark}."),
    ("Nipande basi gani kwenda {town}?", "Panda basi [la kwanza|la kijani|namba {n}] kwenye kituo kikuu, kisha "
    "ushuke {town}."),
    ("Je, kuna {place} karibu na hapa?", "Ndiyo, {place} {is_at} nyuma ya soko, {mark}. Ni dakika {minutes} tu."),
    ("Mgeni wangu anakuja kwa gari. Nimwelekeze vipi afike {place_to}?",
     "Mwambie avuke daraja, apinde [kushoto|kulia] {mark}, kisha aendelee kwa dakika kumi."),
)  # fmt: skip

WEATHER: tuple[Pair, ...] = (
    ("Redio imesema kuna {sky} {town} leo. [Una ushauri?|Nifanye nini?]", "{advice}."),
    ("Hali ya hewa ya {town} ikoje? Nasikia kuna {sky}, nyuzi {degrees}.", "Ndiyo, kuna {sky} na joto ni nyuzi "
    "{degrees}. {advice}."),
    ("Jana joto lilikuwa nyuzi {degrees}, leo ni nyuzi {warmer}. Limeongezeka kiasi gani?",
     "Limeongezeka kwa nyuzi {warmth}. [Leo ni joto zaidi kuliko jana.|Fungua madirisha upate hewa.]"),
    ("Kesho tunaenda shambani, na kuna {sky}. [Una ushauri?|Tufanye nini?]", "{advice}. Mwende mapema asubuhi na "
    "mrudi kabla ya giza."),
    ("Mvua za masika huanza lini?", "Kwa kawaida huanza mwezi wa tatu, na huendelea hadi mwezi wa tano katika sehemu "
    "nyingi za pwani."),
    ("Kwa nini anga ni jeusi hivi?", "Inaelekea mvua inakuja. [Anua nguo haraka|Funga madirisha] na [ukae "
    "ndani|usiende mbali]."),
    ("Je, ni vizuri kusafiri kwenda {town} kukiwa na {sky}?", "Inawezekana, lakini uwe mwangalifu. {advice}."),
)  # fmt: skip

FAMILY: tuple[Pair, ...] = (
    ("Nina kaka {brothers} na dada {sisters}. Mama yangu ana watoto wangapi?", "Mama yako ana watoto {children}, "
    "ukiwemo wewe."),
    ("Dada yangu {name} ana miaka {age}. Mimi nimemzidi kwa miaka {gap}. Nina miaka mingapi?", "Una miaka {older}, "
    "kwa sababu {age} na {gap} ni {older}."),
    ("Bibi yangu alizaliwa mwaka {born}. Mwaka {year} alikuwa na miaka mingapi?", "Mwaka {year} alifikisha miaka "
    "{years}. [Hongera kwake!|Mungu ampe afya njema.]"),
    ("Mtoto wa shangazi yangu ni nani kwangu?", "Mtoto wa shangazi yako ni binamu yako."),
    ("Baba wa mama yangu ninamwita nani?", "Baba wa mama yako ni babu yako, na mama wa mama yako ni bibi yako."),
    ("Tunataka kumfanyia {name} sherehe ya kuzaliwa. [Tuandae nini?|Una mawazo gani?]",
     "Mnaweza kuandaa keki, [soda na matunda|pilau na juisi], na kuwaalika [marafiki|majirani] {many_people} wa "
     "karibu."),
    ("Mdogo wangu {name} [hataki kula mboga|analia kila asubuhi]. Nifanye nini?",
     "Kuwa na subira. Mpe [kidogo kidogo|muda], mwoneshe mfano mzuri, na umsifu akifanya vizuri."),
    ("Niandikie ujumbe wa kumwalika {name} nyumbani {weekday}.",
     "Mpendwa {name}, karibu nyumbani kwetu {weekday} [mchana|jioni]. Tutakula pamoja na kuzungumza. "
     "[Usikose!|Tunakusubiri.]"),
)  # fmt: skip

SCHOOL: tuple[Pair, ...] = (
    ("Darasa letu lina wavulana {a} na wasichana {b}. Tuko wangapi?", "Mko wanafunzi {both}, yaani {a} na {b}."),
    ("{a} mara {small} ni ngapi?", "{a} mara {small} ni {product}."),
    ("Leo ni {today}. Mtihani ni baada ya siku {days}. Utakuwa siku gani?", "Mtihani utakuwa {exam}. [Soma kidogo "
    "kila siku.|Nakutakia mafanikio.]"),
    ("Nina kitabu chenye kurasa {pages}. Nimesoma kurasa {read}. Zimebaki ngapi?", "Zimebaki kurasa {unread}. "
    "[Endelea kusoma!|Utamaliza karibuni.]"),
    ("Nifanye nini ili [nikumbuke|nielewe] ninachosoma?", "Soma kwa muda mfupi, [andika|chora] mambo muhimu, halafu "
    "umweleze [rafiki|ndugu] yako."),
    ("Wingi wa neno '{thing}' ni nini?", "Wingi wa '{thing}' ni '{things}'."),
    ("Nini maana ya neno '{word}'?", "'{Word}' ni {meaning}."),
    ("Mwalimu ametupa mazoezi {a}. Nikifanya {small} kwa siku, nitamaliza baada ya siku ngapi?",
     "Utahitaji siku {needed}. [Anza leo.|Usiyaache hadi siku ya mwisho.]"),
    ("Shule inafungua {today} au {exam}? Barua inasema: 'siku {days} baada ya {today}'.", "Kwa mujibu wa barua, "
    "shule inafungua {exam}."),
)  # fmt: skip

COOK: tuple[Pair, ...] = (
    ("[Nawezaje kupika|Nielekeze kupika] ugali?", "Chemsha maji, tia unga kidogo kidogo huku ukikoroga, kisha songa "
    "kwa mwiko mpaka uwe mgumu."),
    ("[Nawezaje kupika|Nisaidie kupika] wali wa nazi?", "Osha mchele, chemsha tui la nazi na chumvi, tia mchele, "
    "funika, na upike kwa moto mdogo."),
    ("[Ninapikaje|Nielekeze kupika] chapati laini?", "Kanda unga na maji ya uvuguvugu, chumvi na mafuta. Acha dakika "
    "thelathini, kisha sukuma na ukaange."),
    ("Chai ya maziwa [inapikwaje|hutengenezwaje]?", "Chemsha maji na majani ya chai, ongeza maziwa na tangawizi, "
    "kisha tia sukari [kidogo|upendavyo]."),
    ("Nataka kupika maharagwe. [Nianze wapi?|Yanachukua muda gani?]", "Yaloweke usiku mzima, kisha yachemshe kwa saa "
    "moja hivi mpaka yalainike. Mwisho ongeza kitunguu na nyanya."),
    ("Uji wa watoto unapikwaje?", "Koroga unga na maji baridi, mimina kwenye maji yanayochemka, na uendelee kukoroga "
    "kwa dakika kumi."),
    ("Nikaange samaki vipi?", "Mpake chumvi na limau, mwache dakika kumi na tano, kisha mkaange kwenye mafuta ya moto "
    "mpaka awe wa kahawia."),
    ("Watu {few} wanahitaji vikombe {cups} vya mchele. Kwa watu {more} nipike vikombe vingapi?", "Pika vikombe "
    "{more_cups}, yaani {per} kwa kila mtu."),
    ("Mboga za majani zipikwe kwa muda gani?", "Dakika tano hadi nane zinatosha. Zikikaa sana motoni hupoteza "
    "[ladha|rangi] yake."),
    ("Chumvi imezidi kwenye mchuzi! [Nifanye nini?|Nisaidie.]", "Ongeza maji kidogo au kiazi kibichi, chemsha tena, "
    "kisha onja kabla ya kupakua."),
)  # fmt: skip

HEALTH: tuple[Pair, ...] = (
    ("Nina mafua [kidogo|tangu jana]. Nifanye nini?", "Pumzika, kunywa maji ya kutosha na vinywaji vya moto. {doctor}"),
    ("Kichwa kinaniuma [leo|tangu asubuhi].", "Pole sana. Kunywa maji, pumzika mahali penye kivuli na utulivu. "
    "{doctor}"),
    ("Silali vizuri usiku. [Una ushauri?|Nisaidie.]", "Lala muda ule ule kila siku, usinywe kahawa jioni, na uache "
    "simu mbali na kitanda. {doctor}"),
    ("Mgongo unauma baada ya kazi ya shamba.", "Pole. Nyoosha mwili taratibu, [pumzika|badilisha mkao], na usibebe "
    "mizigo mizito. {doctor}"),
    ("Nifanye mazoezi kiasi gani?", "Kwa watu wengi, kutembea haraka kwa dakika {minutes} kila siku ni mwanzo mzuri. "
    "{doctor}"),
    ("Mtoto amejikata kidogo kidoleni.", "Osha jeraha kwa maji safi na sabuni, likaushe, kisha lifunike kwa "
    "kitambaa safi. {doctor}"),
    ("Macho yanachoka nikisoma [usiku|kwenye kompyuta].", "Washa taa ya kutosha, na kila dakika ishirini angalia "
    "mbali kidogo. {doctor}"),
    ("Kwa nini ninawe mikono kila mara?", "Kunawa mikono kwa sabuni huondoa vijidudu. Nawa kabla ya kula na baada ya "
    "kutoka chooni."),
    ("Ninywe maji kiasi gani kwa siku?", "Kwa kawaida glasi {glasses} hivi kwa siku zinatosha, na zaidi wakati wa "
    "joto. {doctor}"),
    ("Tumbo linasumbua baada ya kula.", "Pole. Kula kidogo kidogo, epuka mafuta mengi, na unywe maji safi. {doctor}"),
)  # fmt: skip

DOCTOR = (
    "[Hali isipobadilika|Usipopata nafuu] baada ya siku [mbili|tatu], nenda [zahanati|hospitali].",
    "Ukiwa na wasiwasi, [mwone daktari|muulize muuguzi].",
    "[Ugua pole.|Utapona, inshallah.]",
)

CLOCK: tuple[Pair, ...] = (
    ("Basi la {town} linaondoka {start}. Safari ni saa {hours}. Litafika saa ngapi?", "Litafika {end}. [Fika kituoni "
    "mapema.|Safari njema!]"),
    ("Nimeanza kazi {start} na nimefanya kazi saa {hours}. Sasa ni saa ngapi?", "Sasa ni {end}. [Pumzika "
    "kidogo.|Umefanya kazi nzuri.]"),
    ("Mkutano ni {start}, na utachukua saa {hours}. Utaisha saa ngapi?", "Utaisha {end}, kama hautachelewa."),
    ("Nikiondoka {start} na njia ni ya saa {hours}, nitafika {town} saa ngapi?", "Utafika {town} {end}. [Beba "
    "maji.|Nakutakia safari njema.]"),
    ("Saa saba kamili kwa Kiingereza ni saa ngapi ya mchana?", "Saa saba mchana ya Kiswahili ni saa moja (13:00) kwa "
    "saa ya kimataifa."),
    ("Leo ni {today}. Siku {days} zijazo itakuwa siku gani?", "Itakuwa {exam}."),
    ("Wiki {few} zina siku ngapi?", "Wiki {few} zina siku {week_days}, kwa sababu wiki moja ina siku saba."),
)  # fmt: skip

TALKS = (GREET, PART, MARKET, WAY, WEATHER, FAMILY, SCHOOL, COOK, HEALTH, CLOCK)
BANKS: tuple[tuple[str, ...], ...] = (*(pair for pairs in TALKS for pair in pairs), DOCTOR)
