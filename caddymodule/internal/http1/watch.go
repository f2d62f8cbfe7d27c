package http1

import (
	"context"
	"sync"
	"time"
)

// watch notices when the client of a request goes away. It begins to look only when a
// request takes long, because most requests end before.
type watch struct {
	mu      sync.Mutex
	timer   *time.Timer
	cancel  context.CancelFunc // of the request; nil if there is none
	reading chan struct{}      // closed when nobody reads any more; nil if nobody does
	timed   bool               // the handler has set a read deadline
	ahead   [1]byte
	n       int // how much of it has come
}

// brief is the time for which a request is not watched.
const brief = 50 * time.Millisecond

func (w *watch) begin(c *conn, cancel context.CancelFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cancel, w.timed, w.n = cancel, false, 0
	if w.timer == nil {
		w.timer = time.AfterFunc(brief, c.look)
		return
	}
	w.timer.Reset(brief)
}

// look waits until the client closes the connection, or sends something.
func (c *conn) look() {
	w := &c.watch
	w.mu.Lock()
	if w.cancel == nil || w.reading != nil {
		w.mu.Unlock()
		return
	}
	done := make(chan struct{})
	w.reading = done
	if !w.timed {
		_ = c.rw.SetReadDeadline(time.Time{}) // the present deadline belongs to the wait for the request
	}
	w.mu.Unlock()

	n, err := c.rw.Read(w.ahead[:])
	w.mu.Lock()
	w.n = n
	if err != nil && w.cancel != nil {
		w.cancel()
	}
	w.mu.Unlock()
	close(done)
}

func (w *watch) setDeadline(c *conn, deadline time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timed = true
	c.readDeadline = longAgo // must not be kept
	return c.rw.SetReadDeadline(deadline)
}

// end ends a watch. It returns the bytes that the client has sent meanwhile.
func (w *watch) end(c *conn) (ahead []byte) {
	w.timer.Stop()
	w.mu.Lock()
	w.cancel = nil
	reading := w.reading
	if reading != nil {
		_ = c.rw.SetReadDeadline(longAgo)
	}
	w.mu.Unlock()
	if reading == nil {
		return nil
	}
	<-reading
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reading = nil
	c.readDeadline = longAgo // must not be kept
	return w.ahead[:w.n]
}
