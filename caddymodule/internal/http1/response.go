package http1

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// response is a handler's ResponseWriter. It sends the same bytes as net/http would, as long
// as the response has a length and a type, and the handler asks for nothing else. If the
// handler does, net/http takes over, unless the head has been written.
type response struct {
	conn   *conn
	r      *http.Request
	asked  int // the length of the request's head
	cancel context.CancelFunc

	header  http.Header
	status  int    // 0 until the head has been written
	length  int64  // of the body, as the head has it
	written int64  // of the body
	out     []byte // to be sent
	sent    bool   // something has been
	close   bool   // the connection, after the response
	timed   bool   // the handler has set a write deadline
	err     error  // of sending

	full *takenOver // nil unless net/http has taken over
}

// heldBack is the number of body bytes that wait for more, as in net/http.
const heldBack = 2048

func (w *response) Header() http.Header { return w.header }

func (w *response) WriteHeader(status int) {
	switch {
	case w.status != 0:
		w.conn.server.logf("http: superfluous response.WriteHeader call")
	case w.full == nil && w.plain(status):
		w.status = status
		w.writeHead()
	default:
		w.net().WriteHeader(status)
	}
}

// net returns net/http's writer. Unless net/http has taken over, it does so now.
func (w *response) net() http.ResponseWriter {
	if w.full == nil {
		w.clearDeadline()
		w.full = w.conn.server.full.take(w.conn, w.asked, w.cancel)
	}
	w.full.sync(w.header)
	return w.full.w
}

// plain tells whether a response has a body of a known type and length, and fields that are
// sent unchanged.
func (w *response) plain(status int) bool {
	if status < 200 || status == http.StatusNoContent || status == http.StatusNotModified || http.StatusText(status) == "" {
		return false
	}
	for name, values := range w.header {
		switch name {
		case "Connection", "Trailer", "Transfer-Encoding":
			return false
		}
		if strings.HasPrefix(name, http.TrailerPrefix) || !httpguts.ValidHeaderFieldName(name) || slices.ContainsFunc(values, mended) {
			return false
		}
	}
	lengths := w.header["Content-Length"]
	if len(lengths) != 1 {
		return false
	}
	length, err := strconv.ParseInt(lengths[0], 10, 64)
	_, typed := w.header["Content-Type"]
	w.length = length
	return err == nil && length >= 0 && (typed || length == 0)
}

// mended tells whether net/http would change a value before it sends it.
func mended(value string) bool {
	return strings.ContainsAny(value, "\r\n") || textproto.TrimString(value) != value
}

// writeHead writes the head. It is sent together with what comes next.
func (w *response) writeHead() {
	b := append(w.conn.out[:0], "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(w.status), 10)
	b = append(b, ' ')
	b = append(b, http.StatusText(w.status)...)
	b = append(b, "\r\n"...)
	names := w.conn.names[:0]
	for name := range w.header {
		names = append(names, name)
	}
	slices.Sort(names)
	w.conn.names = names
	for _, name := range names {
		for _, value := range w.header[name] {
			b = append(b, name...)
			b = append(b, ": "...)
			b = append(b, value...)
			b = append(b, "\r\n"...)
		}
	}
	if _, dated := w.header["Date"]; !dated {
		b = append(b, "Date: "...)
		b = time.Now().UTC().AppendFormat(b, http.TimeFormat)
		b = append(b, "\r\n"...)
	}
	w.close = w.close || w.conn.server.closing.Load()
	if w.close {
		b = append(b, "Connection: close\r\n"...)
	}
	w.out = append(b, "\r\n"...)
}

func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 && w.full == nil {
		w.WriteHeader(http.StatusOK)
	}
	if w.full != nil {
		return w.net().Write(p)
	}
	w.written += int64(len(p))
	switch {
	case w.written > w.length:
		return 0, http.ErrContentLength
	case w.r.Method == http.MethodHead:
		return len(p), nil
	case len(w.out)+len(p) <= cap(w.conn.out):
		w.out = append(w.out, p...)
	default:
		w.flush()
		w.send(p)
	}
	if w.written > heldBack {
		w.flush()
	}
	if w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

// flush sends what has been written.
func (w *response) flush() {
	w.send(w.out)
	w.out = w.out[:0]
}

func (w *response) send(p []byte) {
	if len(p) == 0 || w.err != nil {
		return
	}
	w.sent = true
	w.clearDeadline()
	if _, w.err = w.conn.rw.Write(p); w.err != nil {
		w.cancel()
	}
}

// clearDeadline removes the write deadline of an earlier response.
func (w *response) clearDeadline() {
	if !w.timed && !w.conn.writeDeadline.IsZero() {
		w.conn.writeDeadline = time.Time{}
		_ = w.conn.rw.SetWriteDeadline(time.Time{}) // if this fails, the write will fail, too
	}
}

// ReadFrom sends the content of a file or another connection, if possible inside the
// kernel.
func (w *response) ReadFrom(src io.Reader) (n int64, err error) {
	if w.status == 0 && w.full == nil {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.full != nil:
		return io.Copy(w.net(), src)
	case w.r.Method == http.MethodHead:
		return io.Copy(onlyWriter{w}, src)
	}
	if !w.sent { // the head goes together with the first bytes
		n, err = io.CopyN(onlyWriter{w}, src, 512)
		if err != nil {
			if err == io.EOF {
				err = nil
			}
			return n, err
		}
	}
	w.flush()
	if w.err != nil {
		return n, w.err
	}
	w.clearDeadline()
	more, err := w.conn.rw.ReadFrom(src)
	w.written += more
	return n + more, err
}

// onlyWriter hides ReadFrom.
type onlyWriter struct{ io.Writer }

// FlushError sends what has been written so far.
func (w *response) FlushError() error {
	if w.status == 0 && w.full == nil {
		w.WriteHeader(http.StatusOK)
	}
	if w.full != nil {
		return http.NewResponseController(w.net()).Flush()
	}
	w.flush()
	return w.err
}

// Flush is FlushError without the error.
func (w *response) Flush() { _ = w.FlushError() }

// Hijack lets net/http hijack the connection, if no response has begun.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if w.status != 0 {
		return nil, nil, errors.New("http: Hijack after the head of the response has been written")
	}
	conn, buffered, err := http.NewResponseController(w.net()).Hijack()
	if err == nil {
		w.conn.server.remove(w.conn) // as in net/http, nobody waits for its end
	}
	return conn, buffered, err
}

// SetReadDeadline sets the deadline of the read that notices that the client is gone.
func (w *response) SetReadDeadline(deadline time.Time) error {
	if w.full != nil {
		return http.NewResponseController(w.full.w).SetReadDeadline(deadline)
	}
	return w.conn.watch.setDeadline(w.conn, deadline)
}

// SetWriteDeadline sets the deadline of all later writes.
func (w *response) SetWriteDeadline(deadline time.Time) error {
	if w.full != nil {
		return http.NewResponseController(w.full.w).SetWriteDeadline(deadline)
	}
	w.timed = true
	if near(w.conn.writeDeadline, deadline, time.Now()) {
		return nil
	}
	w.conn.writeDeadline = deadline
	return w.conn.rw.SetWriteDeadline(deadline)
}

// EnableFullDuplex does nothing, because there is no request body to read first.
func (w *response) EnableFullDuplex() error { return nil }

// finish sends the rest after the handler has ended. It tells whether the connection may
// have another request.
func (w *response) finish() (again bool) {
	if w.status == 0 && w.full == nil {
		w.net() // net/http decides about an empty response
	}
	if w.full != nil {
		return false
	}
	w.flush()
	return w.err == nil && !w.close && (w.r.Method == http.MethodHead || w.written == w.length)
}
