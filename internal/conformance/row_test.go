package conformance

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestNotation(t *testing.T) {
	for in, want := range map[string]string{
		"":                "",
		"81 82 z 6869":    "\x81\x82\x00\x00\x00\x00hi",
		"k":               "\x37\xfa\x21\x3d",
		"rep(61,3) 62":    "aaab",
		"rep(ff,0)":       "",
		"8182 00000000\n": "\x81\x82\x00\x00\x00\x00",
	} {
		got, err := Bytes(in)
		if err != nil || string(got) != want {
			t.Errorf("Bytes(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"8", "zz", "x", "rep(61)", "rep(100,1)", "rep(61,-1)", "rep(61,1", "0x81"} {
		if got, err := Bytes(in); err == nil {
			t.Errorf("Bytes(%q) = %q without an error", in, got)
		}
	}
	for _, trace := range []string{"", "C> 81", "81 OPEN", "C> 8 OPEN", "FAIL OPEN", "OPEN C> 81", "CLEAN(8)", "C> 81 nothing 81 OPEN", "C> 81 OPEN OPEN"} {
		if steps, err := Steps(trace); err == nil {
			t.Errorf("Steps(%q) = %v without an error", trace, steps)
		}
	}
}

// Every row can be read, says what it is about and is there once.
func TestRows(t *testing.T) {
	type key struct {
		id, trace string
		handler   Handler
		options   Options
	}
	seen := map[key]bool{}
	for _, row := range Rows() {
		if row.ID == "" || row.Rule == "" {
			t.Errorf("%v has no id or no rule", row)
		}
		row.want() // panics on a trace that cannot be read
		k := key{row.ID, row.Trace, row.Handler, row.Options}
		if seen[k] {
			t.Errorf("twice: %v", row)
		}
		seen[k] = true
	}
	t.Logf("%d rows", len(seen))
}

func TestCuttings(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, row := range Rows() {
		sends := row.sends()
		for _, cut := range slices.Concat(row.Cuttings(), row.Drawn(rng, 4)) {
			for i, b := range sends {
				pieces := cut.pieces(i, b)
				if !bytes.Equal(slices.Concat(pieces...), b) {
					t.Fatalf("%v, %s: the pieces are not the whole", row, cut.Name)
				}
				for _, piece := range pieces {
					if len(piece) == 0 && len(b) > 0 {
						t.Fatalf("%v, %s: an empty piece", row, cut.Name)
					}
				}
			}
		}
	}

	// 1 whole, 1 byte by byte, and one for each offset inside.
	if got := len(Row{Trace: "C> 81 82 z 6869 C> 8900 OPEN"}.Cuttings()); got != 2+7+1 {
		t.Errorf("%d cuttings of a short row", got)
	}
	long := "82 ff 0000000000010000 z rep(61,65536)"
	offsets := cutOffsets(mustBytes(long), false)
	offsets = slices.Compact(offsets)
	if want := 14 + 16 + 16; len(offsets) != want {
		t.Errorf("%d offsets in a long row, want %d: %v", len(offsets), want, offsets)
	}
}

// The rows that compression changes are those with RSV1 on the first frame of a
// message, and all of those are there.
func TestByDeflate(t *testing.T) {
	left := slices.Clone(ByDeflate)
	for _, row := range Rows() {
		if row.Options.Deflate != NoDeflate {
			continue
		}
		changes := false
		inside := false
		for _, step := range row.Steps() {
			if step.Kind != Send {
				continue
			}
			var c cursor
			border := true
			for i, x := range step.Bytes {
				if border {
					op := x & 15
					changes = changes || x&0x70 == 0x40 && (op == opText || op == opBinary) && !inside
					if op <= opBinary {
						inside = x&0x80 == 0
					}
				}
				c.feed(step.Bytes[i:i+1], nil)
				border = c.between()
			}
		}
		trace := strings.TrimPrefix(row.Trace, "C> ")
		if listed := slices.Contains(ByDeflate, trace); listed && !changes {
			t.Errorf("nothing in %v is changed by compression", row)
		} else if changes && !listed {
			t.Errorf("compression changes %v", row)
		}
		left = slices.DeleteFunc(left, func(s string) bool { return s == trace })
	}
	if len(left) > 0 {
		t.Errorf("no such rows: %q", left)
	}
}
