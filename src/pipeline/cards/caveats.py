"""What every model's card says: where the faces of each dataset come from, limits, groups, uses; in whole sentences."""

# What whoever uses a model must know of the faces that it learned from, and their terms.
SOURCES = {
    "fer2013": (
        "FER2013: grey pictures of 48 pixels from image searches; people agree with its labels on about two faces of "
        "three",
        "a public challenge set",
    ),
    "rafdb": ("RAF-DB: pictures from the web, labelled by some forty people each", "for research, on request"),
    "affectnet": (
        "AffectNet: pictures from searches for words of feeling, labelled by one person each",
        "for research, on request",
    ),
    "wild": ("posed pictures of few people, of which the faces were cut out", "CC BY-NC-ND 4.0"),
}
DRAWN = "drawn by this project, to try out the pipeline"

LIMITS = (
    "The labels are what annotators saw in a picture, not what a person felt.",
    "Every face gets one of the labels, also where none fits, or where there is no face.",
    "The datasets are skewed in age, skin colour and culture.",
    "Small, dark, blurred, turned or covered faces are harder than the scores over all faces say.",
    "Probabilities are calibrated for faces like those of these datasets; elsewhere they may be surer than right.",
    "One picture has no context: the same face can mean different things a second later, or in another place.",
)
DRAWN_LIMIT = (
    "It learned from drawn faces: that shows that the machinery works, and nothing about real ones. It is not for use."
)
UNTESTED = (
    "age, from children to the old",
    "sex and gender",
    "skin colour and origin",
    "cultures that show feelings in other ways",
    "conditions that change how a face moves, such as a palsy, Parkinson's disease or autism",
    "glasses, beards, masks, headscarves and make-up",
)
INTENDED = (
    "Research on expression recognition, and teaching how such a system is built, judged and operated.",
    "Interfaces whose user knows of it, agrees, and loses nothing when it is wrong.",
)
FORBIDDEN = (
    "Inferring emotions of people at work or in education: the EU AI Act forbids it (Regulation (EU) 2024/1689, "
    "Article 5(1)(f)).",
    "Decisions about people: hiring, grading, policing, border control, insurance, credit.",
    "Diagnosis: a screening of expressions says nothing about anybody's health, and is no diagnosis.",
    "Watching people who do not know of it. Where the Act allows emotion recognition, it is high-risk (Annex III) and "
    "whoever is exposed to it must be told (Article 50(3)).",
)
