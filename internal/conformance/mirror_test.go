package conformance

import (
	"bytes"
	"fmt"
	"testing"
)

func TestMirror(t *testing.T) {
	for in, want := range map[string]string{
		"81 82 z 6869":              "81 02 6869",
		"81 85 37fa213d 7f9f4d5158": "81 05 48656c6c6f",
		"82 fe 007e z rep(61,126)":  "82 7e 007e rep(61,126)",
		"81 80 z 89 80 z":           "8100 8900",
		"81 00":                     "81 80",
		"81 00 81 80 z":             "81 80 z 81 00",
		"81 02 6869":                "81 82 z 6869",
		"82 ff 8000000000000000":    "82 7f 8000000000000000",
		"82 ff 7fffffffffffffff":    "82 7f 7fffffffffffffff",
		"82 fe 00":                  "82 7e 00",
		"88 82 37fa213d 3412":       "88 02 03e8",
		"81 fe 0080 00":             "81 7e 0080",
		"c1":                        "c1",
	} {
		b := mustBytes(in)
		for cut := range len(b) + 1 { // whatever comes at a time
			var m mirror
			if got := append(m.turn(b[:cut]), m.turn(b[cut:])...); !bytes.Equal(got, mustBytes(want)) {
				t.Errorf("%s, cut at %d: %x, want %s", in, cut, got, want)
			}
		}
	}
}

// A row that is mirrored twice is the row, where its frames are whole and
// masked with z.
func TestMirroredRows(t *testing.T) {
	for _, row := range Rows() {
		mirrored := row.Mirrored()
		if fmt.Sprint(mirrored.want()) != fmt.Sprint(row.want()) {
			t.Errorf("%v: the application is to see something else", row)
		}
		if len(mirrored.Steps()) != len(row.Steps()) {
			t.Errorf("%v: other steps: %v", row, mirrored)
		}
	}
	row := Row{Trace: "C> 01 83 z 48656c 80 82 z 6c6f S> 81 05 48656c6c6f nothing C> 88 82 z 03e8 CLEAN(03e8)"}
	twice := row.Mirrored().Mirrored()
	if got, want := fmt.Sprint(twice.Steps()), fmt.Sprint(row.Steps()); got != want {
		t.Errorf("twice: %s, want %s", got, want)
	}
}
