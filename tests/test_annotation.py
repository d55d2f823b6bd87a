import numpy as np

from pipeline.cli.annotation import COLOUR, annotate


def face(*box):
    return {"box": list(box), "emotion": "happy", "confidence": 0.9}


def test_a_box_is_drawn_around_the_face_and_the_picture_stays_as_it_was():
    picture = np.full((200, 300, 3), 255, np.uint8)
    drawn = annotate(picture, [face(100, 80, 60, 90)])
    assert (picture == 255).all()
    for y, x in ((170, 130), (125, 100), (125, 160)):
        assert tuple(drawn[y, x]) == COLOUR
    assert (drawn[90:160, 110:150] == 255).all()


def test_words_stay_on_the_picture_where_the_face_is_at_its_top():
    drawn = annotate(np.zeros((100, 100, 3), np.uint8), [face(0, 0, 100, 100)])
    ground, words = (drawn[:12] == COLOUR).all(axis=2), (drawn[:12] > 160).all(axis=2)
    assert ground.mean() > 0.3
    assert words.any()


def test_no_face_changes_nothing():
    picture = np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8)
    assert (annotate(picture, []) == picture).all()
