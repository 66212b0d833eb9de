package conformance

import (
	"fmt"
	"slices"
	"strings"
)

// Rows are all rows of the frame level, in the order of CONTRACT.md.
func Rows() []Row {
	return slices.Concat(framing(), masking(), control(), fragmentation(), utf8Rows(), closing(), answers(), limits(), deflateRows())
}

// each makes one row of every input, all with the same ending.
func each(id, rule, ending string, inputs ...string) (rows []Row) {
	for _, in := range inputs {
		rows = append(rows, Row{ID: id, Rule: rule, Trace: "C> " + in + " " + ending})
	}
	return rows
}

// traces makes one row of every trace.
func traces(id, rule string, traces ...string) (rows []Row) {
	for _, trace := range traces {
		rows = append(rows, Row{ID: id, Rule: rule, Trace: trace})
	}
	return rows
}

// with gives all rows the same options.
func with(options Options, rows []Row) []Row {
	for i := range rows {
		rows[i].Options = options
	}
	return rows
}

// whole plays rows in one piece only: their point is their size, and cuts at
// every border of so many bytes would take longer than they tell.
func whole(rows []Row) []Row {
	for i := range rows {
		rows[i].Whole = true
	}
	return rows
}

// handled gives all rows the same handler, which receives but does not send
// back the given messages.
func handled(handler Handler, unsaid []Message, rows []Row) []Row {
	for i := range rows {
		rows[i].Handler, rows[i].Unsaid = handler, unsaid
	}
	return rows
}

// bytewise is the hexadecimal payload as a text message of one byte per frame.
func bytewise(payload string) string {
	var b strings.Builder
	op, size := 0x01, len(payload)/2
	for i := range size {
		if i == size-1 {
			op |= 0x80
		}
		fmt.Fprintf(&b, "%02x 81 z %s ", op, payload[2*i:2*i+2])
		op = 0
	}
	return b.String()
}

// from and to are a frame of n bytes x, masked with z and not masked.
func from(b0 byte, n int, x byte) string {
	return fmt.Sprintf("%x z rep(%02x,%d)", appendHead(nil, b0, 0x80, n), x, n)
}

func to(b0 byte, n int, x byte) string {
	return fmt.Sprintf("%x rep(%02x,%d)", appendHead(nil, b0, 0, n), x, n)
}
