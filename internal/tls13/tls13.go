// Package tls13 is a peer for tests that sends what crypto/tls never does: after
// its handshake the records of TLS 1.3 are made here (RFC 8446 §5, §7), and what
// comes is not looked at.
package tls13

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"sync"
	"time"
)

// ErrSuite is returned where crypto/tls chooses other ciphers than AES-128-GCM,
// as it does on processors without instructions for that.
var ErrSuite = errors.New("tls13: the cipher is not AES-128-GCM")

// Config returns settings for both ends of a connection, made once.
var Config = sync.OnceValue(func() *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(100 * 365 * 24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, InsecureSkipVerify: true}
})

// A Peer is one end of a connection. What is sent adds up until Flush.
type Peer struct {
	nc     net.Conn
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64 // of the next record under this key
	out    bytes.Buffer
}

// Client shakes hands on nc as a client, and Server as a server.
func Client(nc net.Conn, config *tls.Config) (*Peer, error) {
	return handshake(nc, config, tls.Client, "CLIENT_TRAFFIC_SECRET_0")
}

func Server(nc net.Conn, config *tls.Config) (*Peer, error) {
	return handshake(nc, config, tls.Server, "SERVER_TRAFFIC_SECRET_0")
}

func handshake(nc net.Conn, config *tls.Config, shake func(net.Conn, *tls.Config) *tls.Conn, label string) (*Peer, error) {
	var log bytes.Buffer
	config = config.Clone()
	config.MinVersion, config.KeyLogWriter = tls.VersionTLS13, &log
	config.SessionTicketsDisabled = true // they would be records, too
	c := shake(nc, config)
	if err := c.Handshake(); err != nil {
		return nil, err
	}
	if c.ConnectionState().CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		return nil, ErrSuite
	}
	p := &Peer{nc: nc}
	for line := range strings.Lines(log.String()) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == label {
			p.secret, _ = hex.DecodeString(f[2])
		}
	}
	if len(p.secret) != sha256.Size {
		return nil, fmt.Errorf("tls13: there is no %s", label)
	}
	return p, p.use(p.secret)
}

// use makes the keys of a traffic secret (§7.3).
func (p *Peer) use(secret []byte) error {
	key, err := expand(secret, "key", 16)
	if err != nil {
		return err
	}
	iv, err := expand(secret, "iv", 12)
	if err != nil {
		return err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	p.secret, p.iv, p.seq = secret, iv, 0
	p.aead, err = cipher.NewGCM(block)
	return err
}

// expand is HKDF-Expand-Label (§7.1).
func expand(secret []byte, label string, n int) ([]byte, error) {
	label = "tls13 " + label
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(info, byte(len(label)))
	info = append(info, label...)
	info = append(info, 0) // no context
	return hkdf.Expand(sha256.New, secret, string(info), n)
}

// The types of what a record holds, and a KeyUpdate that asks for one in turn
// (§4.6.3).
const (
	handshakeRecord = 22
	dataRecord      = 23
)

var keyUpdate = []byte{24, 0, 0, 1, 1}

// record adds a record (§5.2).
func (p *Peer) record(typ byte, content []byte) {
	inner := append(bytes.Clone(content), typ)
	head := binary.BigEndian.AppendUint16([]byte{dataRecord, 3, 3}, uint16(len(inner)+p.aead.Overhead()))
	nonce := bytes.Clone(p.iv)
	last := nonce[len(nonce)-8:]
	binary.BigEndian.PutUint64(last, binary.BigEndian.Uint64(last)^p.seq)
	p.seq++
	p.out.Write(p.aead.Seal(head, nonce, inner, head))
}

// Data adds a record of data, at most 16 KiB.
func (p *Peer) Data(b []byte) { p.record(dataRecord, b) }

// KeyUpdate adds a KeyUpdate that the other side has to answer, and goes on with
// new keys.
func (p *Peer) KeyUpdate() error {
	p.record(handshakeRecord, keyUpdate)
	next, err := expand(p.secret, "traffic upd", sha256.Size)
	if err != nil {
		return err
	}
	return p.use(next)
}

// Buffered is how many bytes Flush will send.
func (p *Peer) Buffered() int { return p.out.Len() }

// Flush sends what has been added.
func (p *Peer) Flush() error {
	_, err := p.nc.Write(p.out.Bytes())
	p.out.Reset()
	return err
}
