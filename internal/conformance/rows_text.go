package conformance

import (
	"fmt"
	"strings"
)

func utf8Rows() (rows []Row) {
	add := func(more []Row) { rows = append(rows, more...) }
	const (
		fail7 = "FAIL(1007)"
		greek = "cebae1bdb9cf83cebcceb5"
		cut   = greek + "eda080656469746564" // a surrogate in the middle
	)
	add(each("U-01", "a text message is UTF-8, or the connection fails", fail7,
		"81 94 z "+cut, "81 81 z ff", "01 8b z "+greek+" 80 89 z eda080656469746564", bytewise(cut)))

	for _, valid := range strings.Fields("00 7f c280 dfbf e0a080 ed9fbf ee8080 efbfbd efbfbe efbfbf f0908080 f48fbfbf " +
		"f09fbfbe efbbbf61 " + greek) {
		n := len(valid) / 2
		echo := fmt.Sprintf("S> 81 %02x %s OPEN", n, valid)
		add(traces("U-02", "valid text comes back unchanged", fmt.Sprintf("C> 81 %02x z %s %s", 0x80|n, valid, echo)))
		add(traces("U-05", "a code point may be split over frames at any byte", "C> "+bytewise(valid)+echo))
	}
	for _, invalid := range strings.Fields("80 bf 80bf fe ff f5 c0 c1 c0af c080 c1bf e080af e09fbf f08080af f08fbfbf " +
		"f888808080 fc8480808080 f4908080 f7bfbfbf eda080 edadbf edae80 edafbf edb080 edbfbf eda080edb080 c320 e28261") {
		n := len(invalid) / 2
		add(each("U-03", "invalid text fails the connection", fail7,
			fmt.Sprintf("81 %02x z %s", 0x80|n, invalid),
			fmt.Sprintf("81 %02x z 616263646566676869%s6a6b6c6d", 0x80|(n+13), invalid),
			bytewise(invalid+"61")))
	}
	add(each("U-04", "a sequence that the end of the message cuts is invalid", fail7,
		"81 82 z e282", "81 81 z c3", "81 83 z f09f98", "01 82 z e282 80 80 z", "81 8b z 6162636465666768f09f98"))
	add(traces("U-05", "control frames between its parts do not disturb a code point",
		"C> 01 81 z e2 00 81 z 82 80 81 z ac S> 81 03 e282ac OPEN",
		"C> 01 81 z e2 89 80 z 00 81 z 82 89 80 z 80 81 z ac S> 8a 00 8a 00 81 03 e282ac OPEN",
		"C> 01 82 z e282 00 80 z 89 81 z ff 80 81 z ac S> 8a 01 ff 81 03 e282ac OPEN"))
	add(traces("U-06", "an invalid fragment fails before the message ends",
		"C> 01 8b z "+greek+" nothing C> 00 84 z f4908080 FAIL(1007)",
		"C> 01 81 z f4 nothing C> 00 80 z nothing C> 00 81 z 90 FAIL(1007)"))
	add(traces("U-07", "an invalid byte fails before the frame ends",
		"C> 81 95 z "+greek+" nothing C> f490 FAIL(1007)",
		"C> 81 95 z "+greek+"f490 FAIL(1007)",
		"C> 81 fe 1000 z rep(61,300) nothing C> ff FAIL(1007)"))
	for _, early := range []string{"f490", "f5", "eda0", "e080", "f080", "c0"} {
		n := len(early) / 2
		add(each("U-08", "the earliest byte that makes text invalid is the verdict", fail7,
			fmt.Sprintf("01 %02x z %s", 0x80|n, early),
			fmt.Sprintf("81 fe 0100 z %s", early))) // the frame goes on
		if n > 1 {
			add(traces("U-08", "not before the earliest byte",
				fmt.Sprintf("C> 01 82 z %s nothing C> %s FAIL(1007)", early[:2], early[2:])))
		}
	}
	for _, possible := range []struct{ prefix, rest string }{
		{"f4", "8fbfbf"}, {"f48f", "bfbf"}, {"ed9f", "bf"}, {"e0a0", "80"},
	} {
		n, m := len(possible.prefix)/2, len(possible.rest)/2
		add(traces("U-08", "a prefix of a valid sequence is no violation yet",
			fmt.Sprintf("C> 01 %02x z %s nothing C> 80 %02x z %s S> 81 %02x %s%s OPEN",
				0x80|n, possible.prefix, 0x80|m, possible.rest, n+m, possible.prefix, possible.rest),
			fmt.Sprintf("C> 01 %02x z %s nothing OPEN", 0x80|n, possible.prefix)))
	}
	add(traces("U-09", "the state of one message does not reach the next",
		"C> 81 82 z c3a9 81 82 z c3a9 S> 81 02 c3a9 81 02 c3a9 OPEN",
		"C> 82 81 z c3 81 81 z 61 S> 82 01 c3 81 01 61 OPEN",
		"C> 81 82 z c3a9 81 81 z a9 S> 81 02 c3a9 FAIL(1007)",
		"C> 01 81 z c3 80 81 z a9 02 81 z c3 80 81 z 61 S> 81 02 c3a9 82 02 c361 OPEN"))
	add(traces("U-10", "binary is never validated",
		"C> 82 81 z ff S> 82 01 ff OPEN", "C> 02 82 z eda0 80 81 z 80 S> 82 03 eda080 OPEN"))
	return rows
}
