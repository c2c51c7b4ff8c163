"""The picture of the README: which window is chosen, and what is drawn in it."""

import numpy as np

from tools.figure import GAP, GRAYS, HEADING, PREDICTION, TRUTH, ZOOM, figure, window_with_most


def test_the_window_is_the_one_with_the_most_labeled_cleft():
    cleft = np.zeros((3, 4, 8), bool)
    cleft[1, :, 5:7] = cleft[2, 0, 0] = True
    z, columns = window_with_most(cleft, width=4)
    assert z == 1
    assert cleft[z, :, columns].sum() == cleft[z].sum()


def test_labels_are_outlined_in_the_second_panel_and_the_prediction_in_the_third():
    raw, truth, predicted = np.full((40, 40), 200, np.uint8), np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    truth[10:20, 10:20] = predicted[25:30, 25:30] = True
    picture = np.asarray(figure(raw, truth, predicted))
    side = 40 * ZOOM
    panels = [picture[HEADING:, n * (side + GAP) :][:, :side] for n in range(3)]
    assert [sorted(set(np.unique(p)) & {TRUTH, PREDICTION}) for p in panels] == [[], [TRUTH], [PREDICTION]]
    assert (panels[1][10 * ZOOM : 20 * ZOOM, 10 * ZOOM : 20 * ZOOM] < GRAYS).all()  # the cleft itself stays visible
