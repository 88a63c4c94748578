"""What turns words at a terminal into the call of a verb: flags, settings as --SECTION.FIELD, the panels of --help."""
