package leanproxy

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-vnic/caddy-vnic/sites"
)

// copyBody copies the body of the response to the client. It tells whether the body was
// the last that came.
func (x *exchange) copyBody(length int64) (whole bool, err error) {
	switch length {
	case chunked:
		return x.copyChunked()
	case untilClose:
		return false, x.stream(x)
	}
	return x.copyLength(length)
}

func (x *exchange) copyLength(length int64) (whole bool, err error) {
	first := x.rest[:min(int64(len(x.rest)), length)]
	whole = len(first) == len(x.rest)
	if len(first) > 0 {
		if _, err := x.w.Write(first); err != nil {
			return false, err
		}
	}
	remaining := length - int64(len(first))
	if remaining == 0 {
		return whole, nil
	}
	n, err := x.copyRemaining(remaining)
	if err == nil && n < remaining {
		err = io.ErrUnexpectedEOF
	}
	return err == nil, err
}

// worthSplicing is the least number of remaining bytes for which splicing pays.
const worthSplicing = 16 << 10

// copyRemaining copies the rest of the body from the connection. Between plain TCP
// connections the kernel splices it, without a copy in this process, if the writers
// between allow that.
func (x *exchange) copyRemaining(n int64) (copied int64, err error) {
	if err := x.conn.watch(x.r.Context()); err != nil {
		return 0, err
	}
	from := io.LimitedReader{R: x.conn.TCPConn, N: n}
	to, ok := x.w.(io.ReaderFrom)
	if ok && x.r.ProtoMajor == 1 && x.r.TLS == nil && n >= worthSplicing {
		defer x.sendWhole(&from)()
		return to.ReadFrom(&from)
	}
	buf := copyBuffers.Get().(*[copyBufferSize]byte)
	defer copyBuffers.Put(buf)
	return io.CopyBuffer(onlyWriter{x.w}, &from, buf[:])
}

// sendWhole lets a body go in one piece. Caddy's server would split it, so that each piece
// has a deadline against a client that does not read. Here the deadline is set anew
// whenever a part has been sent.
func (x *exchange) sendWhole(from *io.LimitedReader) (restore func()) {
	_, guard := caddyhttp.IdleTimeoutsFromContext(x.r.Context())
	if guard == nil || guard.Deadline.MinRate > 0 { // a rate is measured by pieces
		return func() {}
	}
	from.R = &sites.Source{Conn: x.conn.TCPConn, Sent: func() {
		_ = guard.FlushError() // which sets the deadline; there is nothing to flush
	}}
	return guard.Override(guard.Deadline.Timeout, 0, math.MaxInt)
}

// onlyWriter hides all other methods, because with them io.CopyBuffer would not use its
// buffer.
type onlyWriter struct{ io.Writer }

// copyBufferSize is the size of one write of Caddy's server, in bytes.
const copyBufferSize = caddyhttp.DefaultMaxWriteChunk

var copyBuffers = sync.Pool{New: func() any { return new([copyBufferSize]byte) }}

// Read reads the rest of the response: what has come with the head, then from the
// connection. The client does not wait for the head while this waits.
func (x *exchange) Read(p []byte) (int, error) {
	if len(x.rest) == 0 {
		if !x.flushed {
			n, err := x.conn.readNow(p)
			if n > 0 {
				return n, nil
			}
			if err != nil { // it is not the end, which is read again
				x.flush()
			}
		}
		if err := x.conn.watch(x.r.Context()); err != nil {
			return 0, err
		}
		return x.conn.Read(p)
	}
	n := copy(p, x.rest)
	x.rest = x.rest[n:]
	return n, nil
}

var readers = sync.Pool{New: func() any { return bufio.NewReader(nil) }}

// chunkedHead is the head of a response whose body comes in chunks.
const chunkedHead = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

// copyChunked lets net/http read the chunks and the trailer, because net/http bounds both.
// The upstream has not announced the trailer's fields, so they go on as unannounced ones.
func (x *exchange) copyChunked() (whole bool, err error) {
	from := readers.Get().(*bufio.Reader)
	from.Reset(io.MultiReader(strings.NewReader(chunkedHead), x))
	defer func() {
		from.Reset(nil)
		readers.Put(from)
	}()
	response, err := http.ReadResponse(from, x.r)
	if err != nil {
		return false, err
	}
	if err := x.stream(response.Body); err != nil {
		return false, err
	}
	for name, values := range response.Trailer {
		for _, value := range values {
			x.w.Header().Add(http.TrailerPrefix+name, value)
		}
	}
	return from.Buffered() == 0 && len(x.rest) == 0, nil
}

// pieceSize is the largest read of reverse_proxy, in bytes.
const pieceSize = 32 << 10

// stream copies a body of unknown length, and sends each piece to the client at once. Like
// reverse_proxy it flushes the head alone, unless a first piece is here and more will
// follow. Otherwise net/http would find a type or a length for the body.
func (x *exchange) stream(from io.Reader) error {
	buf := copyBuffers.Get().(*[copyBufferSize]byte)
	defer copyBuffers.Put(buf)
	for {
		n, err := from.Read(buf[:pieceSize])
		if err == io.EOF && !x.flushed {
			x.flush()
		}
		if n > 0 {
			if _, err := x.w.Write(buf[:n]); err != nil {
				return err
			}
			x.flush()
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// flush sends what has been written. If the client is gone, the next write fails.
func (x *exchange) flush() {
	x.flushed = true
	_ = http.NewResponseController(x.w).Flush()
}

// abort ends a response that cannot be completed, as reverse_proxy does.
func (p *proxy) abort(w http.ResponseWriter, err error) {
	p.logger.Warn("aborting with incomplete response", zap.Error(fmt.Errorf("copying: %w", err)))
	_ = http.NewResponseController(w).Flush() // what there is of it
	panic(http.ErrAbortHandler)
}
