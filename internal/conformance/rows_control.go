package conformance

import (
	"fmt"
	"slices"
	"strings"
)

func control() []Row {
	var pings, pongs strings.Builder
	for i := range 10 {
		text := fmt.Sprintf("%x", fmt.Sprintf("payload-%d", i))
		fmt.Fprintf(&pings, "89 89 z %s ", text)
		fmt.Fprintf(&pongs, "8a 09 %s ", text)
	}
	return slices.Concat(
		traces("C-01", "a Pong carries the payload of its Ping",
			"C> 89 80 z S> 8a 00 OPEN",
			"C> 89 85 z 48656c6c6f S> 8a 05 48656c6c6f OPEN",
			"C> 89 88 z 00fffefdfcfb00ff S> 8a 08 00fffefdfcfb00ff OPEN",
			"C> 89 fd z rep(fe,125) S> 8a 7d rep(fe,125) OPEN"),
		each("C-02", "a control payload is at most 125 bytes", fail2,
			"89 fe 007e z rep(fe,126)", "8a fe 007e z rep(fe,126)", "88 fe 007e z 03e8 rep(61,124)",
			"89 ff 0000000000010000 z", "8a ff 000000000000007e z", "88 ff 8000000000000000 z", "89 fe 0001 z 61"),
		each("C-03", "a control frame is not fragmented", fail2,
			"09 80 z", "0a 80 z", "08 80 z", "09 81 z 61 80 81 z 62", inText+"09 80 z"),
		traces("C-04", "an unsolicited Pong is ignored",
			"C> 8a 80 z nothing OPEN", "C> 8a 83 z 616263 nothing OPEN", "C> 8a 81 z 61 89 81 z 62 S> 8a 01 62 OPEN",
			"C> 8a fd z rep(ff,125) nothing C> 81 81 z 61 S> 81 01 61 OPEN"),
		traces("C-05", "every Ping has its own Pong, in order", "C> "+pings.String()+"S> "+pongs.String()+"OPEN"),
		traces("C-06", "a control frame between fragments is handled at once",
			"C> 01 81 z 61 89 81 z 31 S> 8a 01 31 C> 80 81 z 62 S> 81 02 6162 OPEN",
			"C> 01 81 z 61 8a 80 z 89 80 z S> 8a 00 C> 00 80 z 89 81 z 31 S> 8a 01 31 C> 80 81 z 62 S> 81 02 6162 OPEN",
			"C> 01 81 z 61 89 81 z 31 80 81 z 62 S> 8a 01 31 81 02 6162 OPEN"),
		traces("C-07", "the payload of a Ping is not text", "C> 89 81 z ff S> 8a 01 ff OPEN", "C> 8a 81 z ff nothing OPEN"),
		traces("C-08", "no Pong once a Close was received", "C> 88 82 z 03e8 89 81 z 31 CLEAN(03e8)"),
	)
}

func fragmentation() []Row {
	return slices.Concat(
		traces("G-01", "a message in fragments is one message",
			"C> 01 83 z 48656c 80 82 z 6c6f S> 81 05 48656c6c6f OPEN",
			"C> 02 83 z 48656c 80 82 z 6c6f S> 82 05 48656c6c6f OPEN",
			"C> "+bytewise("48656c6c6f")+"S> 81 05 48656c6c6f OPEN",
			"C> 01 fe 0080 z rep(61,128) 00 81 z 62 00 fe 0100 z rep(63,256) 80 80 z S> 81 7e 0181 rep(61,128) 62 rep(63,256) OPEN"),
		traces("G-02", "a fragment may be empty in every position",
			"C> 01 80 z 00 80 z 80 80 z S> 81 00 OPEN",
			"C> 01 80 z 00 81 z 61 80 80 z S> 81 01 61 OPEN",
			"C> 02 80 z 80 81 z ff S> 82 01 ff OPEN",
			"C> 02 81 z ff 00 80 z 00 80 z 80 81 z fe S> 82 02 fffe OPEN"),
		each("G-03", "a continuation continues something", fail2,
			"80 80 z", "00 80 z", "80 81 z 61", "00 81 z 61 81 81 z 62"),
		traces("G-03", "a message that is complete cannot be continued",
			"C> 01 81 z 61 80 81 z 62 80 81 z 63 S> 81 02 6162 FAIL(1002)",
			"C> 81 81 z 61 80 81 z 62 S> 81 01 61 FAIL(1002)",
			"C> 81 81 z 61 00 80 z S> 81 01 61 FAIL(1002)"),
		each("G-04", "no message begins inside another one", fail2,
			"01 81 z 61 81 81 z 62", "01 81 z 61 82 80 z", "02 81 z 61 01 80 z", "02 80 z 02 80 z", "01 81 z 61 00 80 z 81 80 z"),
		traces("G-05", "the first frame of a message gives its type",
			"C> 01 80 z 80 81 z 61 02 80 z 80 81 z 61 S> 81 01 61 82 01 61 OPEN"),
		traces("G-07", "nothing is left of one message in the next",
			"C> 01 81 z 61 80 81 z 62 01 81 z 63 80 81 z 64 S> 81 02 6162 81 02 6364 OPEN",
			"C> 02 81 z 61 80 81 z 62 81 81 z 63 02 80 z 80 81 z 64 S> 82 02 6162 81 01 63 82 01 64 OPEN"),
		traces("G-08", "frame borders make no difference",
			"C> 81 84 z 61626364 01 82 z 6162 80 82 z 6364 "+bytewise("61626364")+"S> 81 04 61626364 81 04 61626364 81 04 61626364 OPEN"),
	)
}
