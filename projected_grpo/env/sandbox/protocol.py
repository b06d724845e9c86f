"""What the trainer and the fork-server agree on. Imported by both, so it needs the standard library alone."""

import struct

READY = b"ready"  # the server's first message; anything else is why it cannot start
REQUEST = b"r"  # comes with three descriptors: job, standard output, frames
ANSWER = struct.Struct("=idddi?")  # wait status, CPU s, wall s, s ready without a core, rests, wall limit reached
FRAMES = 3  # the descriptor on which a program's process writes frames
FILE_MB = 4  # limit of standard output, of the frames and of a marker file
