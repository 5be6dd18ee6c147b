"""Where on a plain Debian machine lies what only its set-up needs. Apart from what packs it: that imports much."""

HOME = "var/lib/vre/software"
