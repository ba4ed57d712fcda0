"""How well a checkpoint marks: detection clean and under attack, false alarms, and what marking does to the text.

Generation (slow, cached, resumable) is kept apart from scoring (fast, repeatable): `generation` writes texts into a work
folder, `scoring` verifies them from their strings alone, `quality` measures them, `report` and `plot` sum up, `run` is the whole.
"""
