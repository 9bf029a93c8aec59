"""Pictures and videos in and out, and the faces in them: nothing here needs the network."""
