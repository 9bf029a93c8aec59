"""How glibc's malloc is set in processes that read files."""

# By default it gives the memory of large arrays back to the system, which then clears it for the
# next ones: a tenth of the time in which videos are read. So what was freed is kept, up to 128 MiB
# at the end of the heap. Arrays from 16 MiB on, and the blocks of Pillow's larger pictures, are
# still given back: a few large pictures shall not fill the memory of every process. All three are
# needed, since setting one of them ends what glibc adapts by itself.
KEPT_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**24),
    "MALLOC_TRIM_THRESHOLD_": str(2**27),
}
