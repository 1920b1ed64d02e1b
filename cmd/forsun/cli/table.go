package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// sheet prints rows in columns, a page at a time: the columns of a page are as
// wide as its widest cell, and never narrower than those of the pages before.
type sheet struct {
	w       io.Writer
	columns []column
	tabs    bool // columns are parted by tabs, and have no header
	color   bool

	rows   [][]string
	widths []int
	begun  bool // the header is printed
}

// column is a column of a sheet.
type column struct {
	title string
	right bool // numbers
	max   int  // cells are cut to this many characters in a table; 0: never
	// paint returns the colour of a cell, which may be none.
	paint func(cell string) text.Colors
}

func (s *session) sheet(columns ...column) *sheet {
	return &sheet{
		w: s.out, columns: columns, tabs: s.opts.Output == outputText, color: s.color,
		widths: make([]int, len(columns)),
	}
}

// pageRows is how many rows are laid out together: what is kept of a long list.
const pageRows = 500

// add takes a row of as many cells as there are columns. Control characters are
// written out.
func (t *sheet) add(cells ...string) error {
	for i, cell := range cells {
		cell = printable(cell)
		if max := t.columns[i].max; max > 0 && !t.tabs {
			cell = text.Snip(cell, max, "…")
		}
		cells[i] = cell
	}
	if t.tabs {
		_, err := fmt.Fprintln(t.w, strings.Join(cells, "\t"))
		return err
	}
	if t.rows = append(t.rows, cells); len(t.rows) < pageRows {
		return nil
	}
	return t.flush()
}

// flush prints the rows that are not printed yet, under the header if it is not
// printed either. A sheet without rows prints nothing.
func (t *sheet) flush() error {
	if len(t.rows) == 0 {
		return nil
	}
	w := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	w.SetStyle(style)
	w.SuppressTrailingSpaces()

	header := make(table.Row, len(t.columns))
	for i, c := range t.columns {
		header[i] = c.title
		t.widths[i] = max(t.widths[i], text.StringWidth(c.title))
	}
	if !t.begun {
		w.AppendHeader(header)
		t.begun = true
	}
	for _, cells := range t.rows {
		row := make(table.Row, len(cells))
		for i, cell := range cells {
			t.widths[i] = max(t.widths[i], text.StringWidth(cell))
			if paint := t.columns[i].paint; paint != nil && t.color {
				if colors := paint(cell); len(colors) > 0 {
					cell = text.Escape(cell, colors.EscapeSeq())
				}
			}
			row[i] = cell
		}
		w.AppendRow(row)
	}
	configs := make([]table.ColumnConfig, len(t.columns))
	for i, c := range t.columns {
		configs[i] = table.ColumnConfig{Number: i + 1, WidthMin: t.widths[i]}
		if c.right {
			configs[i].Align, configs[i].AlignHeader = text.AlignRight, text.AlignRight
		}
	}
	w.SetColumnConfigs(configs)
	t.rows = t.rows[:0]
	_, err := fmt.Fprintln(t.w, w.Render())
	return err
}
