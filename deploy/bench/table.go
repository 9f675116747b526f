package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// table is the figures of all databases, as README.md has them. The zero value is ready.
type table struct {
	columns []string // databases, in the order in which they were measured
	rows    []row    // in the order in which they were first set
	missed  []string
}

type row struct {
	name, mark string
	cells      map[string]string // by column
}

// set fills a cell. mark is what was aimed at, "" for a figure without one; met whether the figure reaches it.
func (t *table) set(column, name, mark, cell string, met bool) {
	if !met {
		t.missed = append(t.missed, fmt.Sprintf("%s, %s: %s (mark: %s)", column, name, cell, mark))
	}
	for _, r := range t.rows {
		if r.name == name {
			if r.cells[column] != "" {
				panic("bench: two figures are called " + name)
			}
			r.cells[column] = cell
			return
		}
	}
	t.rows = append(t.rows, row{name, mark, map[string]string{column: cell}})
}

// write prints the table in Markdown, and below it what has missed its mark.
func (t *table) write(w io.Writer) {
	fmt.Fprintf(w, "\n| | mark | %s |\n|---|---|%s\n", strings.Join(t.columns, " | "), strings.Repeat("---|", len(t.columns)))
	for _, r := range t.rows {
		fmt.Fprintf(w, "| %s | %s |", r.name, r.mark)
		for _, c := range t.columns {
			cell := r.cells[c]
			if cell == "" {
				cell = "–"
			}
			fmt.Fprintf(w, " %s |", cell)
		}
		fmt.Fprintln(w)
	}
	for _, m := range t.missed {
		fmt.Fprintf(w, "\nMISSED: %s\n", m)
	}
}

// sheet is one database's column of the table.
type sheet struct {
	table  *table
	column string
}

// set fills a cell and prints it.
func (s sheet) set(name, mark, cell string, met bool) {
	s.table.set(s.column, name, mark, cell, met)
	fmt.Printf("  %-68s %s\n", name, cell)
}

// tell fills a cell of a row that has no mark, and prints it.
func (s sheet) tell(name, cell string) { s.set(name, "", cell, true) }

// both is the middle and the 99th percentile of sorted times.
func both(sorted []time.Duration) string {
	return fmt.Sprintf("%.2f / %.2f ms", ms(quantile(sorted, .5)), ms(quantile(sorted, .99)))
}

// quantile gives one of sorted times; 0 of none.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(float64(len(sorted))*q), len(sorted)-1)]
}

// thousands writes a count as people read it.
func thousands(n int) string {
	text := fmt.Sprint(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}
