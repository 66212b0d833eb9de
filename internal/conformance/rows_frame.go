package conformance

import (
	"fmt"
	"slices"
)

const (
	inText = "01 81 z 61 " // a text message is in progress
	fail2  = "FAIL(1002)"
)

func framing() (rows []Row) {
	add := func(more []Row) { rows = append(rows, more...) }

	add(each("F-01", "each clause of the header rule is enforced by itself", fail2,
		"a1 80 z", "91 80 z", // RSV2, RSV3
		"c1 80 z", "c9 80 z", inText+"c0 80 z", // RSV1 where nothing was agreed
		"83 80 z", "87 80 z", "8b 80 z", "8f 80 z", // reserved opcodes
		"81 00", "89 00", inText+"80 00", // no mask
		"09 80 z", "0a 80 z", "08 80 z", // a fragmented control frame
		"89 fe 007e z", "8a ff 0000000000010000 z", "88 fe 007e z", // a long one
		"80 80 z", "00 80 z", // a continuation of nothing
		inText+"81 80 z", inText+"02 80 z", // a message inside a message
	))
	add(traces("F-01", "what no clause forbids is legal",
		"C> 01 80 z 89 80 z S> 8a 00 C> 8a 80 z 00 81 z 61 80 80 z S> 81 01 61 OPEN",
		"C> 82 80 z S> 82 00 C> 02 80 z 80 80 z S> 82 00 OPEN"))

	two := []string{"81 00", "82 05", "88 00", "89 00", "8a 00", "80 80", "00 80", "09 80", "0a 80", "08 80",
		"89 fe", "8a ff", "88 fe", "88 ff", inText + "81 80", inText + "02 81", inText + "c0 80"}
	for _, rsv := range []int{0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70} {
		for _, op := range []int{opText, opBinary, opClose, opPing, opPong, opContinuation} {
			head := fmt.Sprintf("%02x 80", 0x80|rsv|op)
			two = append(two, head)
			add(each("F-03", "an RSV bit means nothing without an extension", fail2, head+" z"))
			if op == opContinuation {
				add(each("F-03", "an RSV bit on a continuation means nothing either", fail2, inText+head+" z"))
			}
		}
	}
	for _, op := range []int{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		two = append(two, fmt.Sprintf("%02x 80", 0x80|op))
		add(each("F-04", "a reserved opcode fails the connection", fail2,
			fmt.Sprintf("%02x 80 z", 0x80|op), fmt.Sprintf("%02x 80 z", op), fmt.Sprintf("%02x 81 z 61", 0x80|op),
			fmt.Sprintf("%s%02x 80 z", inText, 0x80|op)))
	}
	add(each("F-02", "the verdict falls after the two first bytes", fail2, two...))

	add(each("F-05", "a 16-bit length is at least 126", fail2,
		"82 fe 0000 z", "82 fe 0005 z 48656c6c6f", "82 fe 007d z rep(61,125)"))
	add(traces("F-05", "126 is the first 16-bit length", "C> 82 fe 007e z rep(61,126) S> 82 7e 007e rep(61,126) OPEN"))
	add(each("F-06", "a 64-bit length is at least 65536", fail2,
		"82 ff 0000000000000005 z 48656c6c6f", "82 ff 000000000000007e z rep(61,126)", "82 ff 000000000000ffff z rep(61,65535)"))
	add(traces("F-06", "65536 is the first 64-bit length",
		"C> 82 ff 0000000000010000 z rep(61,65536) S> 82 7f 0000000000010000 rep(61,65536) OPEN"))
	add(each("F-07", "the top bit of a 64-bit length is 0", fail2,
		"82 ff 8000000000000000 z", "82 ff ffffffffffffffff z", "82 ff 8000000000000001 z 61"))
	verdicts := each("F-08", "a bad length is known before the masking key has come", fail2,
		"82 ff 8000000000000000", "82 ff ffffffffffffffff", "82 fe 0000", "82 fe 007d",
		"82 ff 0000000000000000", "82 ff 000000000000ffff")
	add(verdicts)
	add(with(Options{ReadLimit: 16}, each("F-08", "1002 wins over 1009", fail2,
		"82 ff 8000000000000000", "82 fe 007d", "82 ff 000000000000ffff")))

	for _, n := range []int{0, 1, 125, 126, 127, 128, 65535, 65536, 65537} {
		add(traces("F-09", "every length is echoed, minimally encoded",
			"C> "+from(0x81, n, '*')+" S> "+to(0x81, n, '*')+" OPEN",
			"C> "+from(0x82, n, 0xfe)+" S> "+to(0x82, n, 0xfe)+" OPEN"))
	}
	add(traces("F-10", "input may be cut anywhere",
		"C> 81 fe 0080 z rep(61,128) 89 81 z 62 88 82 z 03e8 S> 81 7e 0080 rep(61,128) 8a 01 62 CLEAN(03e8)"))
	add(traces("F-11", "frames before an illegal one are processed, nothing after it is",
		"C> 81 82 z 6869 a1 82 z 6869 89 80 z S> 81 02 6869 FAIL(1002)",
		"C> 81 82 z 6869 83 80 z 89 80 z S> 81 02 6869 FAIL(1002)",
		"C> 89 81 z 31 81 00 81 82 z 6869 S> 8a 01 31 FAIL(1002)",
		"C> 82 81 z 61 82 fe 0001 z 61 88 82 z 03e8 S> 82 01 61 FAIL(1002)"))
	add(traces("F-12", "text comes back as text and binary as binary",
		"C> 82 83 z 00ff80 S> 82 03 00ff80 OPEN", "C> 81 83 z 616263 S> 81 03 616263 OPEN",
		"C> 81 81 z 61 82 81 z 61 81 81 z 62 S> 81 01 61 82 01 61 81 01 62 OPEN"))
	add(traces("F-13", "an empty message is a message", "C> 81 80 z S> 81 00 OPEN", "C> 82 80 z S> 82 00 OPEN",
		"C> 81 80 z 81 80 z 82 80 z S> 81 00 81 00 82 00 OPEN"))

	// Any prefix: the row is the cut.
	whole := mustBytes("81 fe 0080 z rep(61,128)")
	for n := range len(whole) {
		add([]Row{{ID: "F-14", Rule: "end of stream inside a frame is a lost connection, and nothing of the message is delivered",
			Trace: fmt.Sprintf("C> %x FIN DROP", whole[:n]), Whole: true}})
	}
	add(traces("F-14", "end of stream between fragments is a lost connection, and nothing of the message is delivered",
		"C> 01 81 z 61 FIN DROP", "C> 01 81 z 61 89 81 z 31 S> 8a 01 31 C> 00 81 z 62 FIN DROP"))
	add(each("F-16", "a legal length above the limit is too big, and nothing of that size is allocated", "FAIL(1009)",
		"82 ff 7fffffffffffffff z", "82 ff 7fffffffffffffff z 616263", "81 ff 0000000100000000 z"))
	return rows
}

func masking() []Row {
	return slices.Concat(
		each("M-01", "an unmasked frame from a client fails the connection", fail2,
			"81 05 48656c6c6f", "81 00", "82 00", "89 00", "8a 00", "88 00", "88 02 03e8", inText+"80 00", inText+"80 01 62",
			"82 7e 007e rep(61,126)", "82 7f 0000000000010000 61"),
		traces("M-02", "byte i is masked with key byte i mod 4, from 0 in every frame",
			"C> 81 85 37fa213d 7f9f4d5158 S> 81 05 48656c6c6f OPEN",
			"C> 01 83 37fa213d 7f9f4d 80 82 01020304 6d6d S> 81 05 48656c6c6f OPEN"),
		traces("M-03", "any key is legal",
			"C> 81 85 ffffffff b79a939390 S> 81 05 48656c6c6f OPEN", "C> 81 85 00000000 48656c6c6f S> 81 05 48656c6c6f OPEN"),
		traces("M-05", "control frames are masked like data",
			"C> 89 85 37fa213d 7f9f4d5158 S> 8a 05 48656c6c6f OPEN", "C> 88 82 37fa213d 3412 CLEAN(03e8)",
			"C> 89 85 k 7f9f4d5158 89 81 ffffffff 9e S> 8a 05 48656c6c6f 8a 01 61 OPEN"),
		each("M-07", "masking is not skipped on an encrypted transport", fail2, "81 05 48656c6c6f", "89 00"),
	)
}
