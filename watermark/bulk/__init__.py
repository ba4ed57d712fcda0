"""Many texts: what is done to a line, wherever it comes from, and runs over files of any size on Ray Data.

A run cuts its input into numbered blocks of lines (`blocks`). Workers that hold the model turn each block into one part file, which
appears complete or not at all (`worker`); a folder keeps what was asked for and which parts are there (`folder`), so that a run that
was killed goes on with the blocks that have none. Only `engine` knows of Ray.
"""
