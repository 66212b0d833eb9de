// Package deflate compresses and decompresses messages in the format of
// RFC 1951, the way that permessage-deflate (RFC 7692) uses it.
//
// A connection has one window for each direction: the last 2^bits bytes, 8 to
// 15, of what was compressed before. A message is a run of blocks that may
// refer to it, and ends with an empty stored block of which the last four
// bytes, 00 00 ff ff, are left off. With context takeover the window goes on
// from message to message; without, each message starts with none.
//
// All of RFC 1951 is understood. Of what it permits, an [Encoder] writes stored
// blocks, blocks with the fixed codes and blocks with codes of their own,
// whichever is shortest, and never the bit that marks a last block. It looks
// for repetitions of four bytes and more.
//
// The standard library's compress/flate is made for files. Its writer takes 0.8
// to 1.2 MB, cannot keep its references within a window of less than 32 KiB, and
// takes 7 to 16 µs for a message of 256 bytes, most of it for clearing tables;
// its reader takes 40 KB, and reads through an io.Reader that has to wait where
// a fragment ends. Here a connection that is quiet keeps its windows and the
// table that finds repetitions, at most two windows and 16 KiB for an Encoder and
// one window for a [Decoder], and nothing at all without takeover. What else is
// needed is borrowed for the time of a call, or of a message.
package deflate
