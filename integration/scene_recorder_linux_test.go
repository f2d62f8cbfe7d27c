package integration_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// recorder is a segment's HTTP/1.1 server, which remembers what it got. It is
// strict (RFC 9112): what another server might read in another way, it takes for
// an attack that came through.
type recorder struct {
	name string

	mu       sync.Mutex
	requests []received
	wrong    []string // what is no proper request
}

// received is a request as it came.
type received struct {
	method, target  string
	fields, trailer []field
	body            string
	cutOff          bool // before its end: the sender gave it up
}

type field struct{ name, value string }

var (
	requestLine = regexp.MustCompile(`^([A-Z]+) ([!-~]+) HTTP/1\.1$`)
	fieldLine   = regexp.MustCompile("^([A-Za-z0-9!#$%&'*+.^_`|~-]+): *([ -~]*?) *$")
	length      = regexp.MustCompile(`^[0-9]{1,9}$`)
)

// serve answers the requests of one connection.
func (r *recorder) serve(conn net.Conn) {
	reader := bufio.NewReader(conn)
	for {
		if _, err := reader.Peek(1); err != nil {
			return
		}
		request, err := readStrictly(reader)
		r.note(request, err)
		if err != nil || request.cutOff {
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(r.name), r.name)
	}
}

func (r *recorder) note(request received, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.wrong = append(r.wrong, err.Error())
	} else {
		r.requests = append(r.requests, request)
	}
}

// take returns what came since it was asked last.
func (r *recorder) take() (requests []received, wrong []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	requests, wrong = r.requests, r.wrong
	r.requests, r.wrong = nil, nil
	return requests, wrong
}

func readStrictly(reader *bufio.Reader) (r received, err error) {
	line, err := readLine(reader)
	if err != nil {
		return r, err
	}
	parts := requestLine.FindStringSubmatch(line)
	if parts == nil {
		return r, fmt.Errorf("request line %q", line)
	}
	r.method, r.target = parts[1], parts[2]
	if r.fields, err = readFields(reader); err != nil {
		return r, fmt.Errorf("the header of %s: %w", r.target, err)
	}
	err = r.readBody(reader)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		r.cutOff, err = true, nil
	}
	return r, err
}

// readFields reads a header or a trailer.
func readFields(reader *bufio.Reader) (fields []field, err error) {
	for {
		line, err := readLine(reader)
		if err != nil || line == "" {
			return fields, err
		}
		parts := fieldLine.FindStringSubmatch(line)
		if parts == nil {
			return nil, fmt.Errorf("field line %q", line)
		}
		fields = append(fields, field{strings.ToLower(parts[1]), parts[2]})
	}
}

func readLine(reader *bufio.Reader) (string, error) {
	line, err := reader.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("%q, and then %w", line, err)
	}
	text, ok := strings.CutSuffix(line, "\r\n")
	if !ok || strings.Contains(text, "\r") {
		return "", fmt.Errorf("%q has no proper end", line)
	}
	return text, nil
}

// readBody reads a body whose length is given once, one way or the other.
func (r *received) readBody(reader *bufio.Reader) error {
	lengths, codings := r.values("content-length"), r.values("transfer-encoding")
	switch {
	case len(lengths)+len(codings) == 0:
		return nil
	case len(lengths) == 1 && len(codings) == 0 && length.MatchString(lengths[0]):
		n, err := strconv.Atoi(lengths[0])
		if err != nil {
			return err
		}
		body := make([]byte, n)
		_, err = io.ReadFull(reader, body)
		r.body = string(body)
		return err
	case len(lengths) == 0 && slices.Equal(codings, []string{"chunked"}):
		body, err := io.ReadAll(httputil.NewChunkedReader(reader))
		if err != nil {
			return err
		}
		r.body = string(body)
		r.trailer, err = readFields(reader)
		return err
	default:
		return fmt.Errorf("%s has Content-Length %q and Transfer-Encoding %q", r.target, lengths, codings)
	}
}

// values are what the fields of a name say.
func (r *received) values(name string) (values []string) {
	for _, f := range r.fields {
		if f.name == name {
			values = append(values, f.value)
		}
	}
	return values
}

// routed is the path by which Caddy's path matcher goes: decoded, in lower case,
// without dot segments or double slashes.
func (r *received) routed(t *testing.T) string {
	t.Helper()
	target, err := url.ParseRequestURI(r.target)
	if err != nil {
		t.Errorf("a segment got the target %q: %v", r.target, err)
		return ""
	}
	cleaned := path.Clean("/" + strings.ToLower(target.Path))
	if strings.HasSuffix(target.Path, "/") && cleaned != "/" {
		cleaned += "/"
	}
	return cleaned
}
