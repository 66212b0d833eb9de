package conformance

import (
	"slices"
	"strings"
	"time"
)

func closing() (rows []Row) {
	add := func(more []Row) { rows = append(rows, more...) }
	reason := func(reason string, rows []Row) []Row {
		for i := range rows {
			rows[i].Reason = reason
		}
		return rows
	}

	add(each("K-01", "a Close is answered with its code and without its reason, and the transport ends at once", "CLEAN(03e8)",
		"88 82 z 03e8"))
	add(reason("bye", each("K-01", "the application sees the code and the reason", "CLEAN(03e8)", "88 85 z 03e8 627965")))
	add(each("K-02", "an empty Close is answered by an empty Close", "CLEAN()", "88 80 z"))
	for _, code := range strings.Fields("03e8 03e9 03ea 03eb 03ef 03f0 03f1 03f2 03f3 03f4 03f5 03f6 0bb8 0f9f 0fa0 1387") {
		add(each("K-03", "this code is accepted and echoed", "CLEAN("+code+")", "88 82 z "+code))
	}
	for _, code := range strings.Fields("0000 0001 03e7 03ec 03ed 03ee 03f7 03f8 044c 07d0 0bb7 1388 ffff") {
		add(each("K-04", "this code is never sent, and a protocol error when it is", fail2,
			"88 82 z "+code, "88 85 z "+code+" 627965"))
	}
	add(each("K-05", "half a code is a protocol error", fail2, "88 81 z 03", "88 81 z ff"))
	add(each("K-06", "a reason is UTF-8", "FAIL(1007)",
		"88 83 z 03e8 ff", "88 84 z 03e8 e282", "88 96 z 03e8 cebae1bdb9cf83cebcceb5eda080656469746564"))
	add(reason(strings.Repeat("*", 123),
		each("K-07", "a reason may fill the frame", "CLEAN(03e8)", "88 fd z 03e8 rep(2a,123)")))
	add(each("K-07", "a longer reason makes the frame illegal", fail2, "88 fe 007e z 03e8 rep(2a,124)"))
	add(each("K-09", "everything after the Close is discarded unseen", "CLEAN(03e8)",
		"88 82 z 03e8 88 80 z", "88 82 z 03e8 89 80 z", "88 82 z 03e8 81 82 z 6869", "88 82 z 03e8 ffff",
		"88 82 z 03e8 88 82 z 03e9", "88 82 z 03e8 81 81 z ff"))
	add(each("K-10", "a Close inside a message is a clean one, and the message is dropped", "CLEAN(03e8)",
		"01 81 z 61 88 82 z 03e8 80 81 z 62", "01 81 z 61 88 82 z 03e8", "01 81 z c3 88 82 z 03e8"))
	add(traces("K-11", "a message before the Close is delivered, and its echo comes before the answer",
		"C> 81 82 z 6869 88 82 z 03e8 S> 81 02 6869 CLEAN(03e8)",
		"C> "+from(0x81, 256<<10, '*')+" 88 82 z 03e8 S> "+to(0x81, 256<<10, '*')+" CLEAN(03e8)"))

	// The first message makes this handler close with 1001.
	const closed = "C> 81 81 z 61 S> 88 05 03e9 627965 "
	unsaid := []Message{{Text: true, Data: "a"}}
	add(handled(Closes, unsaid, slices.Concat(
		traces("K-12", "after its own Close the server sends nothing more, not even a Pong",
			closed+"C> 89 81 z 31 nothing C> 88 82 z 03e8 EOF"),
		traces("K-13", "data that comes before the peer's Close is discarded",
			closed+"C> 81 82 z 6869 nothing C> 88 82 z 03e9 EOF",
			closed+"C> 01 82 z 6869 89 80 z 80 80 z nothing C> 88 80 z EOF",
			closed+"C> 88 82 z 03e9 EOF"),
		traces("K-13", "the peer may end the stream instead of closing", closed+"FIN EOF"),
		traces("K-15", "of two Close frames that cross, each is the other's answer", closed+"C> 88 82 z 03e8 EOF",
			"C> 81 81 z 61 88 82 z 03e8 S> 88 05 03e9 627965 EOF"),
		traces("K-16", "an illegal frame in the wait ends it without a second Close",
			closed+"C> c1 80 z EOF", closed+"C> 81 00 EOF", closed+"C> 88 81 z 03 EOF", closed+"C> 89 fe 007e EOF"),
	)))
	add(traces("K-17", "what comes behind the Close is read and thrown away, so that no reset destroys it",
		"C> 88 82 z 03e8 rep(ff,1048576) CLEAN(03e8)"))
	add(traces("K-17", "what comes behind a violation is read and thrown away",
		"C> c1 80 z rep(ff,1048576) FAIL(1002)", "C> 81 81 z ff rep(ff,1048576) FAIL(1007)"))
	add(traces("K-18", "the end of the stream without a Close is 1006, and nothing is sent for it", "FIN DROP",
		"C> 81 81 z 61 S> 81 01 61 FIN DROP", "C> 89 80 z S> 8a 00 FIN DROP"))

	add(handled(Returns, unsaid, traces("K-24", "a handler that returns closes with 1000 and the usual wait",
		"C> 81 81 z 61 S> 88 02 03e8 C> 88 82 z 03e8 EOF", "C> 81 81 z 61 S> 88 02 03e8 C> 89 80 z nothing C> 88 80 z EOF")))
	add(handled(Errors, unsaid, each("K-24", "an error of a handler is 1011", "FAIL(1011)", "81 81 z 61")))
	add(handled(Policy, unsaid, each("K-24", "an error of a handler may choose its code", "FAIL(1008)", "81 81 z 61")))
	add(handled(Panics, unsaid, each("K-24", "a handler that panics is 1011", "FAIL(1011)", "81 81 z 61")))
	return rows
}

func answers() []Row {
	text, binary := []Message{{Text: true, Data: "a"}}, []Message{{Data: "a"}}
	return slices.Concat(
		each("X-01", "a violation of the frame rules is 1002", fail2,
			"91 80 z", "81 01", "82 01 61", "86 80 z", "80 81 z 61", "01 80 z 82 80 z", "09 80 z", "82 fe 0001", "88 82 z 03ed"),
		handled(TextOnly, binary, each("X-02", "an application that wants text refuses binary with 1003", "FAIL(1003)", "82 81 z 61")),
		handled(BinaryOnly, text, each("X-02", "an application that wants binary refuses text with 1003", "FAIL(1003)", "81 81 z 61")),
		each("X-03", "text and close reasons that are not UTF-8 are 1007", "FAIL(1007)", "81 81 z ff", "88 83 z 03e8 ff"),
		handled(Policy, text, each("X-05", "a policy of the application is 1008", "FAIL(1008)", "81 81 z 61")),
		with(Options{ReadLimit: 16}, each("X-06", "what is above the limit is 1009", "FAIL(1009)",
			"82 91 z rep(61,17)", "02 88 z rep(61,8) 00 88 z rep(61,8) 80 81 z 61", "82 fe 0100 z", "82 ff 0000000000010000 z")),
		handled(Panics, text, each("X-07", "a panic of the application is 1011", "FAIL(1011)", "81 81 z 61")),

		with(Options{ReadLimit: 16}, slices.Concat(
			each("X-12", "the announced length is judged before any of it has come", "FAIL(1009)", "82 91 z", "81 91 z"),
			traces("X-12", "the limit itself is allowed", "C> 82 90 z rep(61,16) S> 82 10 rep(61,16) OPEN"),
			traces("X-13", "the limit is for the sum of the fragments",
				"C> 02 8a z rep(61,10) 00 86 z rep(61,6) 80 80 z S> 82 10 rep(61,16) OPEN"),
			each("X-13", "the sum is judged by the announced length", "FAIL(1009)",
				"02 8a z rep(61,10) 80 87 z", "02 90 z rep(61,16) 00 81 z"),
			traces("X-13", "the sum begins anew with each message",
				"C> 02 8a z rep(61,10) 80 86 z rep(61,6) 82 90 z rep(62,16) S> 82 10 rep(61,16) 82 10 rep(62,16) OPEN"),
		)),
		each("X-14", "no sum overflows", "FAIL(1009)", "02 81 z 61 80 ff 7fffffffffffffff z", "02 82 z 6161 00 ff 7fffffffffffffff z"),
		with(Options{ReadLimit: 1}, slices.Concat(
			traces("X-15", "the limit does not count control frames",
				"C> 89 fd z rep(2a,125) S> 8a 7d rep(2a,125) C> 81 81 z 61 S> 81 01 61 OPEN",
				"C> 02 81 z 61 89 fd z rep(2a,125) 80 80 z S> 8a 7d rep(2a,125) 82 01 61 OPEN"),
		)),
		whole(with(Options{ReadLimit: -1}, traces("X-16", "a negative limit is none",
			"C> "+from(0x82, 2<<20, 'a')+" S> "+to(0x82, 2<<20, 'a')+" OPEN"))),
		with(Options{ReadLimit: -1}, traces("X-16", "without a limit nothing is reserved for what is only announced",
			"C> 82 ff 7fffffffffffffff z 6162 nothing FIN DROP", "C> 02 81 z 61 80 ff 7ffffffffffffffe z 6162 nothing FIN DROP")),
	)
}

func limits() []Row {
	return slices.Concat(
		whole(traces("L-01", "the default limit of a message is 1 MiB",
			"C> "+from(0x82, 1<<20, 'a')+" S> "+to(0x82, 1<<20, 'a')+" OPEN",
			"C> "+from(0x02, 1<<19, 'a')+" "+from(0x80, 1<<19, 'a')+" S> "+to(0x82, 1<<20, 'a')+" OPEN")),
		each("L-01", "a byte more is too big", "FAIL(1009)", "82 ff 0000000000100001 z"),
		whole(each("L-01", "a byte more is too big in a later fragment too", "FAIL(1009)",
			from(0x02, 1<<19, 'a')+" 80 ff 0000000000080001 z")),
		with(Options{ReadLimit: 1 << 20}, each("L-02", "the limit of a frame is that of the message", "FAIL(1009)", "02 ff 0000000000100001 z")),
		with(Options{MaxFragments: 3}, slices.Concat(
			traces("L-16", "the number of fragments is bounded for each message, and control frames are none",
				"C> 01 80 z 00 80 z 80 81 z 61 01 80 z 89 80 z 00 80 z 8a 80 z 80 81 z 62 S> 81 01 61 8a 00 81 01 62 OPEN"),
			each("L-16", "one fragment too many is too big", "FAIL(1009)", "02 80 z 00 80 z 00 80 z 00 80 z", "01 80 z 00 81 z 61 00 80 z 80 80 z"),
		)),
		traces("B-06", "what browsers send when a page goes away is a clean end", "C> 88 80 z CLEAN()", "C> 88 82 z 03e9 CLEAN(03e9)"),
		with(Options{CloseTimeout: time.Hour}, traces("B-08", "the server is the one that ends the transport, at once", "C> 88 82 z 03e8 CLEAN(03e8)")),
	)
}
