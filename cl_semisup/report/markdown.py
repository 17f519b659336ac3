"""The leaderboard as Markdown: reads well in a terminal and pastes into GitHub."""

import pandas as pd
from cl_semisup import leaderboard
from cl_semisup.selection import Selection


def page(frame: pd.DataFrame, chosen: Selection) -> str:
    board = leaderboard.leaderboard(frame, chosen.score, chosen.baseline)
    return board.to_string()
