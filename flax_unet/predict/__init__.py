"""Detects forged faces in pictures and videos: `python -m flax_unet.predict`.

A frame's way to a row of predictions.csv: `flax_unet.media.discover.items` lists the files;
`pipeline.inspect` decodes them, finds the faces and has the detector judge them in batches;
`writer.file_results` makes a result of each file, `journal.Journal` keeps it as a line of JSON, and
`predictions.write_predictions` writes the rows, one of each file and one of each face that was
judged. Of many files, `workers.judged_in_processes` does most of this in other processes, and
`cluster.judged_on_cluster` on other machines; `work` has what both have in common.
"""
