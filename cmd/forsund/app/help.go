package app

import (
	"fmt"
	"strings"
)

// helpWidth is how wide the help is; helpColumn is where its descriptions start.
const (
	helpWidth  = 79
	helpColumn = 24
)

// HelpText is the answer to -h, as users of Python's argparse know it.
func HelpText() string {
	groups := flags()
	var b strings.Builder

	var options []string
	for _, g := range groups {
		for _, f := range g.flags {
			switch {
			case f.name == "help":
				options = append(options, "[-h]")
			case f.wordy():
				options = append(options, fmt.Sprintf("[--%s [%s]]", f.name, strings.ToUpper(f.name)))
			case f.value == "":
				options = append(options, "[--"+f.name+"]")
			default:
				options = append(options, fmt.Sprintf("[--%s %s]", f.name, f.value))
			}
		}
	}
	b.WriteString("usage: forsund ")
	b.WriteString(fill(options, len("usage: forsund ")))
	b.WriteString("\n\nHigh-performance timing scheduling service\n")

	for _, g := range groups {
		fmt.Fprintf(&b, "\n%s:\n", g.title)
		for _, f := range g.flags {
			b.WriteString(f.help())
		}
	}
	b.WriteString("\nEach of them can be given in the configuration file instead, as name = value,\n" +
		"and in the environment, as FORSUN_ and its name in capitals with _ for -:\n" +
		"FORSUN_LOG_LEVEL=DEBUG. The command line outweighs the file, the file outweighs\n" +
		"the environment. Times are 90s, 1m30s, or a number of seconds.\n\n" +
		"\"forsund config\", with options behind it, prints what they all add up to.\n" +
		"\"forsund backup DIR\" has the forsund that runs write a backup of its embedded\n" +
		"store, \"forsund restore DIR\" makes a new store of one.\n")
	return b.String()
}

// wordy tells of an option that is on or off that it is often given a word, too.
func (f *flag) wordy() bool { return f.name == "demon" || f.name == "nodemon" || f.name == "lead" }

// help is the paragraph of one option.
func (f *flag) help() string {
	head := "  --" + f.name
	switch {
	case f.name == "help":
		head = "  -h, --help"
	case f.wordy():
		head += " [" + strings.ToUpper(f.name) + "]"
	case f.value != "":
		head += " " + f.value
	}
	usage := f.usage
	if shown := f.showing + f.fallback; shown != "" {
		usage += " (default: " + shown + ")"
	}
	gap := "\n" + strings.Repeat(" ", helpColumn)
	if len(head) <= helpColumn-2 {
		gap = strings.Repeat(" ", helpColumn-len(head))
	}
	return head + gap + fill(strings.Fields(usage), helpColumn) + "\n"
}

// fill sets words in lines of helpWidth, all but the first indented.
func fill(words []string, indent int) string {
	var b strings.Builder
	column := indent
	for i, word := range words {
		if i > 0 {
			if column+1+len(word) > helpWidth {
				b.WriteString("\n" + strings.Repeat(" ", indent))
				column = indent
			} else {
				b.WriteByte(' ')
				column++
			}
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}
