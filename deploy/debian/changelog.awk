# Turns CHANGELOG.md into a changelog of Debian: an entry for each version, with its sections and items in lines of 79 columns.
# -v name=, -v version= (of the package; what is not released yet belongs to it), -v maintainer=.

# Writes the text that was collected, with `mark` before its first line.
function flush_text(    words, count, i, line) {
    count = split(collected, words, " ")
    if (count == 0) return
    if (!has_header) print name " (" version ") unstable; urgency=medium\n"
    has_header = 1
    line = mark
    for (i = 1; i <= count; i++) {
        if (length(line " " words[i]) > 79) {
            print line
            line = "   "
        }
        line = line " " words[i]
    }
    print line
    collected = ""
}

function end_entry(    command, date) {
    flush_text()
    if (!has_header) return
    command = "LC_ALL=C date -u -R -d " day
    command | getline date
    close(command)
    print "\n -- " maintainer "  " date "\n"
    has_header = 0
}

BEGIN { day = "today" }
/^## [0-9]/ {
    if ($2 != version) end_entry()
    version = $2
    day = $4
}
/^### / {
    flush_text()
    if (has_header) print ""
    mark = " "
    collected = "[ " $2 " ]"
    next
}
/^\* / { flush_text(); mark = "  *"; sub(/^\* /, "") }
/^#/ || NF == 0 { flush_text(); mark = ""; next }
mark != "" { collected = collected " " $0 }
END { end_entry() }
