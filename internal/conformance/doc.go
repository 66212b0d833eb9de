// Package conformance is the wire contract as data: the rows of CONTRACT.md,
// a raw peer that plays them, and a second reading of the frame rules to hold
// an implementation against.
//
// A row is one conversation, written the way CONTRACT.md writes it:
//
//	{ID: "C-06", Rule: "a control frame between fragments is answered at once",
//	 Trace: "C> 01 81 z 61 89 81 z 31 S> 8a 01 31 C> 80 81 z 62 S> 81 02 6162 OPEN"}
//
// C> introduces bytes that the peer sends and S> bytes that it must receive,
// exactly these and no others before them. Bytes are hexadecimal, blanks only
// separate fields, and three words stand for longer ones:
//
//	z          the masking key 00000000
//	k          the masking key 37fa213d
//	rep(xx,n)  the byte xx, n times
//
// Between the bytes of one direction and the next may stand
//
//	nothing    nothing has come back so far, although everything was read
//	FIN        the peer ends its side of the transport
//
// and the last word of a trace says how it ends:
//
//	OPEN       the connection is still usable: a Ping is answered
//	FAIL(n)    one Close frame with code n, nothing after it, end of stream
//	CLEAN(p)   a Close frame with exactly the payload p, end of stream
//	DROP       end of stream and never a Close frame
//	EOF        end of stream, after a Close frame that an S> has shown
//
// What the application behind the connection must have seen follows from the
// trace. The handler is an echo unless the row names another one, so the
// messages are those that come back; the code that its calls report is the one
// of the ending, and who ended it follows from the ending too. A row says so
// itself where that is not enough.
//
// Rows are written for a server. [Row.Mirrored] is what they are for a client.
//
// Nothing in a row knows about a transport. [Row.Play] plays it on any
// net.Conn on which the handshake is done, cutting the input as a [Cutting]
// says, and [Row.Check] compares what the application saw.
package conformance
