"""What the trainer and the fork-server agree on. Imported by both, so it needs the standard library alone."""

import struct

READY = b"ready"  # the server's first message; anything else is why it cannot start
REQUEST = struct.Struct("=qi")  # length of the job in the job file, CPU s; comes with three descriptors
DESCRIPTORS = struct.Struct("=3i")  # standard input, standard output, frames
ANSWER = struct.Struct("=idddi?")  # wait status, CPU s, wall s, s ready without a core, rests, wall limit reached
FRAMES = 3  # the descriptor on which a program's process writes frames
NESTED = 200  # lists in lists that an answer may have
FILE_MB = 4  # limit of standard output, of the frames and of a marker file
